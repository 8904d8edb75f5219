import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'

const MODULE = new URL('state-folder.ts', import.meta.url).href

/** Runs `script` with $1, an empty folder on a tmpfs, in a mount namespace of its own: nothing of it outlives the test. */
function inMountNamespace(t: TestContext, script: string): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'pc-state-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const sh = (text: string) =>
    spawnSync('unshare', ['-m', 'sh', '-euc', text, 'sh', folder, process.execPath], { encoding: 'utf8' })
  const prepare = `mount -t tmpfs none "$1"; cd "$1"; mkdir lower upper work root
    mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work root`
  if (sh(prepare).status !== 0) {
    t.skip('needs root, mount namespaces and overlayfs')
    return undefined
  }
  const run = sh(`${prepare}\n${script}`)
  assert.equal(run.status, 0, run.stderr)
  return run.stdout
}

/** Prepares the folder; says what is mounted on it (kind and first option, a line each), and its mode. */
const prepared = (folder: string, times: number): string => `
  for i in $(seq ${times}); do
    "$2" --input-type=module -e "import {prepareStateFolder as p} from '${MODULE}'; await p(process.argv[1])" "$PWD/${folder}"
  done
  awk -v at="$PWD/${folder}" '$2 == at { print $3, $4 }' /proc/self/mounts | cut -d, -f1
  stat -c %a "${folder}"`

test('where the machine itself is an overlay, the labs get a tmpfs, once', (t) => {
  const mounts = inMountNamespace(t, prepared('root/labs', 2))
  if (mounts === undefined) return
  const [mount = '', mode, ...rest] = mounts.trim().split('\n')
  assert.match(mount, /^tmpfs rw/)
  assert.equal(mode, '711')
  assert.deepEqual(rest, [])
})

test('an overlay can lie in what was prepared on an overlay', (t) => {
  const made = inMountNamespace(
    t,
    `${prepared('root/labs', 1)}
    cd root/labs; mkdir l u w node
    mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w node
    echo written >node/file; cat u/file`,
  )
  if (made !== undefined) assert.match(made, /\nwritten\n$/)
})

test('elsewhere the folder is left as it is', (t) => {
  const mounts = inMountNamespace(t, prepared('labs', 1))
  if (mounts !== undefined) assert.equal(mounts, '711\n')
})
