import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, globSync } from 'node:fs'
import { chmod, cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { missingForTunnels, TunnelLab } from '#test/kit/tunnel-lab.ts'
import { type DebianTree, makeDebianTree } from '#tools/image/debian.ts'

/**
 * What `make release` made, in userlands that have no Node: a Debian of its required packages alone, and one as Alpine's,
 * of musl and busybox, without any glibc. Each is a tree of its own that a device runs in by chroot.
 */
const exec = promisify(execFile)
const [release] = globSync(fileURLToPath(new URL('../../build/release/pellicle-*-linux-x64', import.meta.url)))
const skip =
  missingForTunnels('ping', 'mmdebstrap', 'chroot') ??
  (release === undefined ? 'needs build/release (make release)' : false)

interface Userland {
  readonly name: string
  readonly tree: DebianTree
  /** Makes of the tree what it stands for. */
  finish(tree: string): Promise<void>
}

const DEBIAN: Userland = {
  name: 'a Debian without anything',
  tree: { variant: 'minbase', packages: [], format: 'directory' },
  finish: async () => undefined,
}

const MUSL: Userland = {
  name: 'musl and busybox',
  tree: { variant: 'extract', packages: ['busybox-static', 'musl'], format: 'directory' },
  async finish(tree) {
    // busybox-static depends on nothing, musl on nothing: what else mmdebstrap's extract brings would be glibc's
    const busybox = join(tree, 'bin/busybox')
    for (const name of ['sh', 'readlink', 'dirname', 'cat', 'ls']) await symlink('busybox', join(tree, 'bin', name))
    await exec('chroot', [tree, '/bin/sh', '-c', 'true'])
    assert.ok(existsSync(busybox))
    assert.deepEqual(globSync(['**/libc.so.6', '**/ld-linux-x86-64.so.2'], { cwd: join(tree, 'lib') }), [])
  },
}

suite('the release', { skip, concurrency: 1 }, () => {
  for (const userland of [DEBIAN, MUSL]) {
    test(`runs in ${userland.name}`, async (t) => {
      const folder = await mkdtemp(join(tmpdir(), 'pellicle-release-'))
      let lab: TunnelLab | undefined
      t.after(async () => {
        await lab?.close()
        await rm(folder, { recursive: true, force: true })
      })
      const tree = join(folder, 'tree')
      await makeDebianTree(tree, userland.tree)
      await userland.finish(tree)
      assert.equal(existsSync(join(tree, 'usr/bin/node')), false)
      for (const below of ['dev', 'proc', 'run/wireguard', 'opt', 'var'])
        await mkdir(join(tree, below), { recursive: true })
      if (!existsSync(join(tree, 'var/run'))) await symlink('/run', join(tree, 'var/run'))
      await cp(release ?? '', join(tree, 'opt/pellicle'), { recursive: true, verbatimSymlinks: true })
      // a link from elsewhere, as one on PATH would be
      await mkdir(join(tree, 'usr/bin'), { recursive: true })
      await symlink('/opt/pellicle/bin/pellicle-wireguard', join(tree, 'usr/bin/pellicle-wireguard'))
      const version = await exec('chroot', [tree, '/opt/pellicle/bin/pellicle', 'version'])
      assert.match(version.stdout, /^pellicle \d+\.\d+\.\d+ linux x64\n$/)

      const program = join(folder, 'in-tree')
      await writeFile(
        program,
        `#!/bin/sh
exec unshare -m sh -c '
mkdir -p /var/run/wireguard
mount --bind /var/run/wireguard "$0/run/wireguard"
mount --rbind /dev "$0/dev"
mount -t proc proc "$0/proc"
exec chroot "$0" /usr/bin/pellicle-wireguard "$@"' ${tree} "$@"
`,
      )
      await chmod(program, 0o755)
      lab = await TunnelLab.open('prl')
      await Promise.all([lab.startOther(lab.a, program), lab.startOurs(lab.b)])
      await lab.introduce()
      for (const family of [4, 6] as const) await lab.ping(lab.a, lab.b.inner[family])
      assert.ok((await lab.latestHandshake(lab.a)) > 0)
    })
  }
})
