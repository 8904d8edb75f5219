import { existsSync, globSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { run } from '#apps/lab/process/run.ts'
import { cacheFolder } from '#apps/lab/programs/cache.ts'
import { Fault } from '#core/fault/fault.ts'
import { DEBIAN_SUITE, makeDebianTree } from '../image/debian.ts'
import { cargoEnvironment, type Target } from './targets.ts'

/** The engine as one static program. Rejects with `release.target` when this machine cannot build for the target. */
export async function engineFor(root: string, target: Target, onLine: (line: string) => void): Promise<string> {
  const { rust, cc, ccPackage } = target
  await requireRust(rust)
  await run(cc, ['--version']).catch((cause: unknown) => {
    const remedy = `apt-get install ${ccPackage}`
    throw new Fault('release.target', `no C compiler for ${rust}: ${cc} is not there`, { remedy, cause })
  })
  const args = ['build', '--release', '--locked', '--target', rust, '--package', 'pellicle-engined']
  await run('cargo', args, {
    cwd: join(root, 'engine'),
    env: { ...process.env, ...cargoEnvironment(target) },
    onLine,
  })
  return join(root, 'engine/target', rust, 'release/pellicle-engine')
}

/** Rust's own standard library for the target; rustup is asked for it where it is missing. */
async function requireRust(rust: string): Promise<void> {
  const there = async () => existsSync((await run('rustc', ['--print', 'target-libdir', '--target', rust])).trim())
  if (await there()) return
  const cause = await run('rustup', ['target', 'add', rust]).then(
    () => undefined,
    (error: unknown) => error,
  )
  if (await there()) return
  const remedy = `rustup target add ${rust}`
  throw new Fault('release.target', `Rust has no standard library for ${rust} here`, { remedy, cause })
}

/** What a Node binary is linked with; libc's own modules for names are left out: the keeper resolves none. */
const LIBRARIES = 'libatomic libc libdl libgcc_s libm libpthread libstdc++'.split(' ')

/**
 * Debian's loader and libraries, unpacked, for machines that have others (Alpine) or older ones, or too few: Node asks for
 * libstdc++ and libatomic, which a small Debian lacks. Gives the files and the copyright notices.
 */
export async function libraries(target: Target): Promise<{ files: string[]; notices: string[] }> {
  const packages = ['libatomic1', 'libc6', 'libgcc-s1', 'libstdc++6']
  const { debian: architecture, loader } = target
  const tree = await kept(`glibc-${DEBIAN_SUITE}-${architecture}`, async (folder) => {
    await makeDebianTree(folder, { variant: 'extract', packages, architecture, format: 'directory' })
  })
  const found = globSync([`{lib,usr/lib}/*-linux-gnu/{${LIBRARIES.join()}}.so.*`, `lib*/**/${loader}`], { cwd: tree })
  const byName = new Map(found.map((file) => [basename(file), join(tree, file)]))
  const wanted = [...LIBRARIES.map((name) => new RegExp(`^${name.replaceAll('+', '\\+')}\\.so\\.\\d+$`)), loader]
  const files = wanted.map((name) => {
    const [, path] = [...byName].find(([file]) => (typeof name === 'string' ? file === name : name.test(file))) ?? []
    if (path === undefined) throw new Fault('release.library', `${String(name)} is in none of ${packages.join(', ')}`)
    return path
  })
  const notices = packages
    .map((name) => join(tree, 'usr/share/doc', name, 'copyright'))
    .filter((file) => existsSync(file))
  return { files, notices }
}

/** The folder of Node's package: our own for this machine, else packed by npm, which checks what it gets. */
export async function nodePackage(root: string, target: Target, version: string): Promise<string> {
  const own = join(root, 'node_modules', target.node)
  if (existsSync(own)) return own
  const folder = await kept(`${target.node}-${version}`, async (to) => {
    mkdirSync(to, { recursive: true })
    await run('npm', ['pack', '--silent', '--pack-destination', to, `${target.node}@${version}`], { cwd: to })
    const [archive] = globSync('*.tgz', { cwd: to })
    await run('tar', ['-xzf', join(to, archive ?? ''), '-C', to])
    rmSync(join(to, archive ?? ''))
  })
  return join(folder, 'package')
}

/** A folder of the cache, made when it is not there. */
async function kept(name: string, make: (folder: string) => Promise<void>): Promise<string> {
  const parts = join(cacheFolder(), 'release')
  const folder = join(parts, name)
  if (existsSync(folder)) return folder
  mkdirSync(parts, { recursive: true })
  const partial = mkdtempSync(join(parts, 'partial-'))
  try {
    await make(join(partial, 'made'))
    renameSync(join(partial, 'made'), folder)
    return folder
  } finally {
    rmSync(partial, { recursive: true, force: true })
  }
}
