import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { Fault } from '#core/fault/fault.ts'
import { helmFault } from './errors.ts'
import { Helm } from './helm.ts'
import { fits, locateHelm } from './locate.ts'
import { decodeRelease } from './release.ts'

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'pc-helm-'))
  t.after(() => rm(path, { recursive: true, force: true }))
  return path
}

async function script(path: string, body: string): Promise<string> {
  await writeFile(path, `#!/bin/sh\n${body}\n`)
  await chmod(path, 0o755)
  return path
}

test('a chart that fails speaks for itself', () => {
  const fault = helmFault(
    'upgrade',
    'coalesce.go:301: warning: x\nError: UPGRADE FAILED: execution error at (cilium/templates/validate.yaml:3:4): pellicle.clusterCIDRs is empty\n\nUse --debug flag to render out invalid YAML\n',
  )
  assert.equal(fault.code, 'helm.values')
  assert.equal(fault.message, 'helm upgrade: pellicle.clusterCIDRs is empty')
})

for (const [text, code] of [
  ['Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress', 'helm.pending'],
  ['Error: Kubernetes cluster unreachable: Get "https://x": dial tcp: connect: connection refused', 'helm.unreachable'],
  ['Error: UPGRADE FAILED: chart requires kubeVersion: >= 1.30.0-0 which is incompatible', 'helm.kubernetes'],
  ['', 'helm.failed'],
] as const) {
  test(`"${text.slice(0, 60)}" is ${code}`, () => assert.equal(helmFault('upgrade', text).code, code))
}

test('values go through a file that only we can read, never through the command line', async (t) => {
  const at = await folder(t)
  const program = await script(
    join(at, 'helm'),
    `echo "$@" > ${at}/args
for f in "$@"; do case $f in *values.json) stat -c %a "$f" > ${at}/mode; cp "$f" ${at}/values; echo "$f" > ${at}/path;; esac; done
echo '{"version": 3, "manifest": "m"}'`,
  )
  const helm = new Helm({
    program,
    namespace: 'kube-system',
    kubeconfig: '/k',
    context: 'c',
    as: 'jane',
    asGroups: ['a', 'b'],
    env: { PATH: '/usr/bin:/bin' },
    signal: new AbortController().signal,
  })
  const outcome = await helm.upgrade({ release: 'cilium', chart: '/chart', values: { key: 'geheim' }, dryRun: false })
  assert.deepEqual(outcome, { revision: 3, manifest: 'm', notes: '' })
  const args = await readFile(join(at, 'args'), 'utf8')
  assert.match(
    args,
    /^upgrade cilium \/chart --install --reset-values --values .*--namespace kube-system --kubeconfig \/k --kube-context c --kube-as-user jane --kube-as-group a --kube-as-group b$/m,
  )
  assert.ok(!args.includes('geheim'))
  assert.equal((await readFile(join(at, 'mode'), 'utf8')).trim(), '600')
  assert.deepEqual(JSON.parse(await readFile(join(at, 'values'), 'utf8')), { key: 'geheim' })
  await assert.rejects(readFile((await readFile(join(at, 'path'), 'utf8')).trim()), { code: 'ENOENT' })
})

test('an interrupt reaches Helm, and is waited for', async (t) => {
  const at = await folder(t)
  const program = await script(
    join(at, 'helm'),
    `trap 'touch ${at}/interrupted; exit 1' INT; touch ${at}/started; while :; do sleep 0.05; done`,
  )
  const abort = new AbortController()
  const helm = new Helm({
    program,
    namespace: 'n',
    kubeconfig: undefined,
    context: undefined,
    as: undefined,
    asGroups: undefined,
    env: { PATH: '/usr/bin:/bin' },
    signal: abort.signal,
  })
  const run = helm.uninstall('cilium')
  const why = new Error('stopped')
  const poll = setInterval(() => {
    readFile(join(at, 'started')).then(
      () => abort.abort(why),
      () => undefined,
    )
  }, 20)
  t.after(() => clearInterval(poll))
  await assert.rejects(run, why)
  await readFile(join(at, 'interrupted'))
})

test('Helm is found: named, built, in PATH where the version fits', async (t) => {
  const at = await folder(t)
  const named = await script(join(at, 'named'), 'exit 0')
  assert.equal(await locateHelm({ PELLICLE_HELM: named }), named)
  await assert.rejects(
    locateHelm({ PELLICLE_HELM: join(at, 'none') }),
    (e) => e instanceof Fault && e.code === 'helm.missing',
  )

  await mkdir(join(at, 'path'))
  const inPath = await script(join(at, 'path', 'helm'), 'echo v3.19.5')
  const env = { XDG_CACHE_HOME: join(at, 'cache'), PATH: `${join(at, 'path')}:/usr/bin:/bin` }
  assert.equal(await locateHelm(env), inPath)
  await script(inPath, 'echo v4.0.1')
  await assert.rejects(locateHelm({ ...env, PATH: join(at, 'path') }), /helm is v4\.0\.1/)

  const programs = join(at, 'cache', 'pellicle', 'programs')
  await mkdir(programs, { recursive: true })
  await script(join(programs, 'helm-3.9.1-0123456789ab'), '')
  await script(join(programs, 'helm-3.19.5-0123456789ab'), '')
  await script(join(programs, 'helm-4.0.0-0123456789ab'), '')
  assert.equal(await locateHelm(env), join(programs, 'helm-3.19.5-0123456789ab'))

  const set = join(at, 'cache', 'pellicle', 'kubernetes', '0123456789ab', 'bin')
  await mkdir(set, { recursive: true })
  await script(join(set, 'helm'), 'echo v3.20.0')
  assert.equal(await locateHelm(env), join(set, 'helm'))
})

test('versions', () => {
  for (const version of ['v3.19', '3.14.0', 'v3.20.1']) assert.ok(fits(version), version)
  for (const version of ['v3.13.9', 'v4.0.0', '', 'latest']) assert.ok(!fits(version), version)
})

test('a release Secret is read as Helm writes it', async () => {
  const release = {
    name: 'cilium',
    namespace: 'kube-system',
    version: 2,
    info: { status: 'deployed' },
    chart: { metadata: { name: 'cilium', version: '0.1.0', annotations: { a: 'b' } } },
    config: { encryption: { enabled: true } },
  }
  const inner = gzipSync(JSON.stringify(release)).toString('base64')
  const decoded = await decodeRelease(Buffer.from(inner).toString('base64'), 'secret')
  assert.equal(decoded.revision, 2)
  assert.deepEqual(decoded.values, release.config)
  assert.deepEqual(decoded.chart, { name: 'cilium', version: '0.1.0', appVersion: undefined, annotations: { a: 'b' } })
  await assert.rejects(decodeRelease('xxxx', 'sh.helm.release.v1.cilium.v1'), /sh\.helm\.release\.v1\.cilium\.v1/)
})
