import { existsSync, globSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { run } from '#apps/lab/process/run.ts'
import { cacheFolder } from '#apps/lab/programs/cache.ts'
import { Fault } from '#core/fault/fault.ts'
import { initramfs } from './initramfs.ts'
import { BOOT_MODULES, type Kernel, MODULE_FOLDERS } from './kernels.ts'
import { unpackKernel } from './packages.ts'
import { extractVmlinux } from './vmlinux.ts'

/** A kernel ready to boot. */
export interface GuestImage {
  readonly kernel: Kernel
  /** As `uname -r` says it. */
  readonly version: string
  readonly vmlinux: string
  /** Has `VERSION/kernel/…`, modules decompressed. */
  readonly modules: string
}

/** Raised when what is kept has another form. */
const FORM = 1

/** From the cache of this user, or made: about half a minute, 100 MB fetched and 250 MB kept. @throws Fault `kernel.*` */
export async function guestImage(kernel: Kernel): Promise<GuestImage> {
  const folder = join(cacheFolder(), 'kernels', `${kernel.name}-${FORM}`)
  if (!existsSync(folder)) {
    const partial = `${folder}.${process.pid}`
    rmSync(partial, { recursive: true, force: true })
    try {
      await makeImage(kernel, partial)
      renameSync(partial, folder)
    } finally {
      rmSync(partial, { recursive: true, force: true })
    }
  }
  const [version] = readdirSync(join(folder, 'modules'))
  if (version === undefined) throw new Fault('kernel.image', `${folder} has no modules`, { remedy: `Remove ${folder}` })
  return { kernel, version, vmlinux: join(folder, 'vmlinux'), modules: join(folder, 'modules') }
}

async function makeImage(kernel: Kernel, folder: string): Promise<void> {
  const unpacked = join(folder, 'package')
  await unpackKernel(kernel.suite, unpacked)
  const [image] = globSync('boot/vmlinuz-*', { cwd: unpacked })
  const [version] = readdirSync(join(unpacked, 'lib/modules'))
  if (image === undefined || version === undefined)
    throw new Fault('kernel.package', `${kernel.suite}: no kernel in the package`)
  writeFileSync(join(folder, 'vmlinux'), extractVmlinux(readFileSync(join(unpacked, image))))

  const from = join(unpacked, 'lib/modules', version)
  const root = join(folder, 'root')
  const to = join(root, 'lib/modules', version)
  for (const part of MODULE_FOLDERS) {
    for (const name of [part, `${part}.xz`]) {
      if (!existsSync(join(from, 'kernel', name))) continue
      mkdirSync(dirname(join(to, 'kernel', name)), { recursive: true })
      renameSync(join(from, 'kernel', name), join(to, 'kernel', name))
    }
  }
  for (const name of ['modules.builtin', 'modules.builtin.modinfo', 'modules.order']) {
    if (existsSync(join(from, name))) renameSync(join(from, name), join(to, name))
  }
  const compressed = globSync('**/*.ko.xz', { cwd: to })
  if (compressed.length > 0) await run('xz', ['-d', '-T1', ...compressed], { cwd: to })
  await run('busybox', ['depmod', '-b', root, version])
  renameSync(join(root, 'lib/modules'), join(folder, 'modules'))
  for (const path of [unpacked, root]) rmSync(path, { recursive: true, force: true })
}

/** The modules to load first, as paths below `modules/VERSION`, each behind what it needs. Built-in ones are left out. */
function bootModules({ modules, version }: GuestImage): readonly string[] {
  const index = new Map<string, readonly [path: string, needs: readonly string[]]>()
  const nameOf = (path: string) =>
    path
      .slice(path.lastIndexOf('/') + 1)
      .replace(/\.ko$/, '')
      .replaceAll('-', '_')
  for (const line of readFileSync(join(modules, version, 'modules.dep'), 'utf8').split('\n')) {
    const [path, needs] = line.split(':')
    if (path) index.set(nameOf(path), [path, needs?.split(' ').filter(Boolean) ?? []])
  }
  const ordered = new Set<string>()
  const add = (name: string) => {
    const [path, needs] = index.get(name) ?? []
    if (path === undefined) return
    for (const need of needs ?? []) if (!ordered.has(need)) add(nameOf(need))
    ordered.add(path)
  }
  for (const name of BOOT_MODULES) add(name.replaceAll('-', '_'))
  return [...ordered]
}

/** What the guest boots into. @param busybox a static one */
export function guestInitramfs(image: GuestImage, busybox: Uint8Array): Uint8Array {
  return initramfs(
    busybox,
    bootModules(image).map((path) => readFileSync(join(image.modules, image.version, path))),
  )
}
