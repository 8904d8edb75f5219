import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { VERSION } from '#core/version/version.ts'
import { runPellicle } from '#test/kit/cli.ts'
import { scanModule } from '#tools/imports/scan.ts'

const root = new URL('../..', import.meta.url).pathname
// nothing that is refused here may come so far as to look for a cluster: that would say "no cluster is known"
const NOWHERE = { HOME: '/nonexistent' }

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'pc-cli-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

for (const [line, expected] of [
  ['instal', /No command registered for `instal`, did you mean .*`install`/],
  ['install --vershun 1', /--vershun, did you mean --version\?/],
  ['install --chart-directry x', /--chart-directry, did you mean --chart-directory\?/],
  ['encryption status --per-node-detials', /--per-node-detials, did you mean --per-node-details\?/],
  ['install --helm-release-nam x', /did you mean --helm-release-name\?/],
  ['uninstall --no-wiat', /did you mean --no-wait\?/],
  ['config set debug true --no-restrt', /did you mean --no-restart\?/],
  ['encrypt rotate-key --no-interactiv', /did you mean --no-interactive\?/],
  ['encrypt rotate-key --wiat-duration 5m', /did you mean --wait-duration\?/],
  ['install --ipv4-native-routing-cdir x', /did you mean --ipv4-native-routing-cidr\?/],
  ['status --qqqqqq', /No flag registered for --qqqqqq$/m],
  ['lab capture underlay --count abc', /whole number/],
  ['lab capture underlay -c 0', /whole number/],
  ['status -o yaml', /Expected "yaml" to be one of \(summary\|json\)/],
  ['status -o jsn', /did you mean "json"\?/],
  ['status --wait-duration 5', /a duration is written as 90s/],
  ['status --worker-count 0', /whole number/],
  ['config set onlykey', /value/],
  ['encryption stat', /did you mean `status`/],
] as const) {
  test(`not understood: ${line}`, async () => {
    const { code, stdout, stderr } = await runPellicle(line.split(' '), { env: NOWHERE })
    assert.equal(code, 2, stderr)
    assert.match(stderr, expected)
    assert.equal(stdout, '')
  })
}

for (const [line, expected] of [
  ['--set encryption.enabeld=true', /there is no value encryption\.enabeld\. Did you mean encryption\.enabled\?/],
  ['--set encryptoin.enabled=true', /Did you mean encryption/],
  ['--set encryption.enabled=yes', /encryption\.enabled: true or false is needed\. Set it to true or false/],
  ['--set encryption.enabled=ture', /encryption\.enabled: true or false is needed\. Did you mean true\?/],
  ['--set encryption.type=wiregaurd', /encryption\.type: wireguard or ipsec is needed\. Did you mean wireguard\?/],
  ['--set tunnelProtocol=geneve', /tunnelProtocol: Geneve is not built\. Remove it, or set it to vxlan/],
  ['--set ipam.mode=cluster-pol', /Did you mean cluster-pool\?/],
  ['--set routingMode=natvie', /Did you mean native\?/],
  ['--set encryption.enabled', /"encryption\.enabled" has no value/],
  ['--set encryption.enabled=true --set encryption.type=ztunnel', /ztunnel/],
  ['--set encryption.strictMode.enabled=true', /strictMode/],
  ['--set encryption.strictMode.egress.enabled=true', /strictMode/],
  ['--set hostFirewall.enabled=true', /no host firewall/],
  ['--set policyEnforcementMode=always', /NetworkPolicy is not enforced/],
  ['--set authentication.mutual.spire.enabled=true', /mutual authentication/],
  ['--set encryption.nodeEncryption=true', /encryption\.enabled is not set/],
  ['--set MTU=abc', /MTU/],
  ['--set-string MTU=1400', /MTU/],
  ['--set a.b=1 --set hostFirewall.enabled=true', /2 values are wrong/],
  ['--values /nonexistent/values.yaml', /cannot be read/],
  ['--version 1.13.0', /older than what this program knows/],
  ['--version 1.21.0', /newer than what this program knows, 1\.20/],
  ['--version 2.0.0', /newer/],
  ['--version latest', /no release such as 1\.14\.5/],
  ['--set routingMode=native', /ipv4NativeRoutingCIDR must be set when routingMode is native/],
] as const) {
  test(`refused before anything is asked: install ${line}`, async () => {
    const { code, stdout, stderr } = await runPellicle(['install', ...line.split(' ')], { env: NOWHERE })
    assert.equal(code, 1)
    assert.match(stderr, expected)
    assert.doesNotMatch(stderr, /no cluster is known/)
    assert.equal(stdout, '')
  })
}

test('what is without meaning is told in one line and does not stop an installation', async () => {
  const { stderr } = await runPellicle(['install', '--set', 'hubble.relay.enabled=true,hubble.ui.enabled=true'], {
    env: NOWHERE,
  })
  assert.equal(stderr.match(/^ℹ️ {2}hubble/gm)?.length, 1, stderr)
  assert.match(stderr, /no cluster is known/)
})

test('files of values are read in order, --set wins, a file that is no YAML is not quoted', async (t) => {
  const at = folder(t)
  writeFileSync(join(at, 'a.yaml'), 'encryption: {enabled: true, type: ztunnel}\n')
  writeFileSync(join(at, 'b.yaml'), 'encryption: {type: wireguard}\n')
  const both = ['install', '-f', join(at, 'a.yaml'), '--values', join(at, 'b.yaml')]
  assert.match((await runPellicle(both, { env: NOWHERE })).stderr, /no cluster is known/)
  const spoiled = await runPellicle([...both, '--set', 'encryption.type=ztunnel'], { env: NOWHERE })
  assert.match(spoiled.stderr, /ztunnel/)
  writeFileSync(join(at, 'c.yaml'), 'password: "geheim\nx: [\n')
  const wrong = await runPellicle(['install', '-f', join(at, 'c.yaml')], { env: NOWHERE })
  assert.match(wrong.stderr, /it is no YAML/)
  assert.doesNotMatch(wrong.stderr, /geheim/)
})

test('a failure is told in one line on stderr, the stack only when asked for', async () => {
  const { code, stdout, stderr } = await runPellicle(['status'], { env: NOWHERE })
  assert.equal(code, 1)
  assert.equal(stdout, '')
  assert.match(stderr, /^Error: no cluster is known.*\n$/)
  assert.match((await runPellicle(['status'], { env: { ...NOWHERE, PELLICLE_VERBOSE: '1' } })).stderr, /\n\s+at /)
})

test('it calls itself as it was called', async () => {
  assert.equal((await runPellicle(['version', '--client'], { program: 'cilium' })).stdout, `cilium-cli: v${VERSION}\n`)
  assert.match((await runPellicle(['install', '--help'], { program: 'cilium' })).stdout, /^USAGE\n {2}cilium install /)
})

test('every command can be asked for help, and is completed', async () => {
  const { stdout } = await runPellicle(['completion', 'propose', '--', ''])
  const commands = stdout.trim().split('\n')
  assert.deepEqual(
    ['install', 'upgrade', 'uninstall', 'status', 'config', 'encryption', 'lab', 'version', 'completion'].filter(
      (name) => !commands.includes(name),
    ),
    [],
  )
  for (const command of commands) {
    const { code, stdout: help } = await runPellicle([command, '--help'])
    assert.equal(code, 0)
    assert.match(help, /^USAGE/)
  }
  assert.equal((await runPellicle(['completion', 'propose', '--', 'status', '-o', ''])).stdout, 'summary\njson\n')
})

test('the completion scripts are read by their shells', (t) => {
  for (const [shell, flag] of [
    ['bash', '-n'],
    ['zsh', '-n'],
    ['fish', '--no-execute'],
  ] as const) {
    const script = execFileSync(join(root, 'bin/pellicle'), ['completion', shell], { encoding: 'utf8' })
    const checked = spawnSync(shell, [flag], { input: script, encoding: 'utf8' })
    if (checked.error !== undefined) t.diagnostic(`${shell} is not here: not checked`)
    else assert.equal(checked.status, 0, checked.stderr)
  }
})

test('the launchers find the checkout through links, and say what is missing', (t) => {
  const at = folder(t)
  symlinkSync(join(root, 'bin/cilium'), join(at, 'tool'))
  symlinkSync('tool', join(at, 'cilium'))
  assert.equal(
    execFileSync(join(at, 'cilium'), ['version', '--client'], { encoding: 'utf8' }),
    `cilium-cli: v${VERSION}\n`,
  )
  execFileSync('cp', ['-r', join(root, 'bin'), at])
  const bare = spawnSync(join(at, 'bin/pellicle'), ['version'], { encoding: 'utf8' })
  assert.equal(bare.status, 1)
  assert.match(bare.stderr, /not set up yet .*Run: make -C .* setup/)
})

test('what a command needs is loaded when it is called: the start reaches no adapter and no schema', () => {
  const seen = new Set<string>()
  const visit = (path: string): void => {
    if (seen.has(path)) return
    seen.add(path)
    // static imports only: a loader's import() is what makes it lazy
    const dynamic = /import\(['"]([^'"]+)['"]\)/g
    const source = execFileSync('cat', [join(root, path)], { encoding: 'utf8' })
    const lazy = new Set([...source.matchAll(dynamic)].map(([, name = '']) => name.split('/').at(-1) ?? ''))
    for (const next of scanModule(root, path).imports) {
      if (!lazy.has(next.split('/').at(-1) ?? '')) visit(next)
    }
  }
  visit('apps/cli/main.ts')
  const heavy = [...seen].filter((path) => path.startsWith('io/') || /core\/api\/(values|config)\.ts$/.test(path))
  assert.ok(seen.size > 15, 'too few modules seen')
  assert.deepEqual(heavy, [])
})
