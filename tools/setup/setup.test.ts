import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'

/** A machine that has all; its architecture is what every run here stops at, so that nothing is ever installed. */
const MACHINE: Readonly<Record<string, string>> = {
  uname: 'case $1 in -s) echo Linux ;; *) echo mips ;; esac',
  id: 'echo 0',
  'apt-get': 'exit 0',
  go: 'echo go1.26.0',
  rustc: "echo 'rustc 1.89.0 (0000000 2025-08-04)'",
  cargo: 'exit 0',
  npm: 'exit 0',
  unshare: 'exit 0',
}
const GUARD = 'this is mips: the pinned Node is built for x86_64. Run it on an x86_64 machine'
const NO_TUN = 'no /dev/net/tun: load the module tun, or give the container --device /dev/net/tun'

interface Options {
  /** What is other than in {@link MACHINE}; undefined: it is not there. */
  readonly change?: Readonly<Record<string, string | undefined>>
  /** What runs the script. */
  readonly by?: readonly [string, ...string[]]
}

/** What the set-up of a copy says is missing, on a PATH of stubs. */
function problems(t: TestContext, { change = {}, by = ['/bin/sh', '-c', '"$1"', 'sh'] }: Options = {}): string[] {
  const root = mkdtempSync(join(tmpdir(), 'pc-setup-'))
  t.after(() => rmSync(root, { recursive: true }))
  const bin = join(root, 'bin')
  mkdirSync(bin)
  mkdirSync(join(root, 'tools'))
  copyFileSync(new URL('../setup.sh', import.meta.url), join(root, 'tools/setup.sh'))
  for (const tool of ['dirname', 'sort', 'head', 'cut']) {
    symlinkSync(existsSync(`/usr/bin/${tool}`) ? `/usr/bin/${tool}` : `/bin/${tool}`, join(bin, tool))
  }
  for (const [name, script] of Object.entries({ ...MACHINE, ...change })) {
    if (script === undefined) continue
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`)
    chmodSync(join(bin, name), 0o755)
  }
  const [command, ...args] = by
  const run = spawnSync(command, [...args, join(root, 'tools/setup.sh')], { encoding: 'utf8', env: { PATH: bin } })
  assert.equal(run.status, 1, run.stderr)
  assert.equal(run.stdout, '')
  const [first, ...lines] = run.stderr.trimEnd().split('\n')
  assert.equal(first, 'setup cannot go on:')
  return lines.map((line) => line.replace(/^ {2}- /, ''))
}

const hasTun = existsSync('/dev/net/tun')
const always = hasTun ? [GUARD] : [GUARD, NO_TUN]

test('the set-up complains of nothing that is there', (t) => {
  assert.deepEqual(problems(t), always)
})

for (const [name, change, problem] of [
  ['root', { id: 'echo 1000' }, /^not root: .*Run it as root \(sudo make setup\)$/],
  ['apt', { 'apt-get': undefined }, /^no apt-get: .*Run it on one of them/],
  ['Go', { go: undefined }, /^no go on PATH: .*Install Go 1\.26 or newer \(https:/],
  ['a newer Go', { go: 'echo go1.24.4' }, /^go1\.24\.4 on PATH: .*Install Go 1\.26/],
  ['cargo', { cargo: undefined }, /^no cargo on PATH: .*Install Rust 1\.89 or newer \(https:/],
  ['rustc', { rustc: undefined }, /^no rustc on PATH: .*Install Rust/],
  ['a newer Rust', { rustc: "echo 'rustc 1.70.0 (0)'" }, /^1\.70\.0 rustc on PATH: .*Install Rust/],
  ['npm', { npm: undefined }, /^no npm on PATH: .*apt-get install npm/],
  ['namespaces', { unshare: 'exit 1' }, /^namespaces cannot be made here: .*--privileged$/],
  ['Linux', { uname: 'case $1 in -s) echo Darwin ;; *) echo mips ;; esac' }, /^this is Darwin: .*Linux machine/],
] as const) {
  test(`the set-up says what to do without ${name}`, (t) => {
    const told = problems(t, { change })
    const others = told.filter((line) => !always.includes(line))
    assert.equal(others.length, 1, told.join('\n'))
    assert.match(others[0] ?? '', problem)
  })
}

test('the set-up says what to do without /dev/net/tun', (t) => {
  const tried = spawnSync('unshare', ['-m', 'sh', '-euc', 'mount -t tmpfs none /dev/net'])
  if (hasTun && tried.status !== 0) {
    t.skip('needs root and mount namespaces to hide /dev/net/tun')
    return
  }
  const unshare = existsSync('/usr/bin/unshare') ? '/usr/bin/unshare' : '/bin/unshare'
  const by = [unshare, '-m', '/bin/sh', '-euc', '/bin/mount -t tmpfs none /dev/net; exec "$1"', 'sh'] as const
  assert.deepEqual(problems(t, hasTun ? { by } : {}), [GUARD, NO_TUN])
})

test('all that is missing is told at once', (t) => {
  const change = {
    id: 'echo 1000',
    'apt-get': undefined,
    go: undefined,
    rustc: undefined,
    cargo: undefined,
    npm: undefined,
  }
  assert.equal(problems(t, { change }).length, always.length + 6)
})
