import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { run } from '#apps/lab/process/run.ts'
import { Fault } from '#core/fault/fault.ts'

/** Programs that a guest needs of this machine, and the Debian packages that bring them. */
const PROGRAMS: Readonly<Record<string, string>> = {
  'qemu-system-x86_64': 'qemu-system-x86',
  busybox: 'busybox-static',
  xz: 'xz-utils',
  wg: 'wireguard-tools',
}

/** Installs what is missing of {@link PROGRAMS}. */
export async function installPrograms(): Promise<void> {
  const missing: string[] = []
  for (const [program, name] of Object.entries(PROGRAMS)) {
    await run('sh', ['-c', 'command -v "$1"', 'sh', program]).catch(() => missing.push(name))
  }
  if (missing.length === 0) return
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  await run('apt-get', ['update', '-q'], { env })
  await run('apt-get', ['install', '-y', '-q', '--no-install-recommends', '--no-remove', ...missing], { env })
}

/**
 * Unpacks the files of the kernel that the suite's `linux-image-amd64` depends on into `folder`; nothing is installed. The
 * machine's own proxies are used, and its mirror by PELLICLE_DEBIAN_MIRROR (for …/debian). About 100 MB.
 */
export async function unpackKernel(suite: string, folder: string): Promise<void> {
  const state = `${folder}.apt`
  try {
    for (const part of ['lists/partial', 'archives/partial']) mkdirSync(join(state, part), { recursive: true })
    const mirror = process.env['PELLICLE_DEBIAN_MIRROR'] ?? 'http://deb.debian.org/debian'
    const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'
    writeFileSync(join(state, 'sources.list'), `deb [arch=amd64 signed-by=${keyring}] ${mirror} ${suite} main\n`)
    const options = [
      'Dir::Etc::SourceList',
      `${state}/sources.list`,
      'Dir::Etc::SourceParts',
      '/dev/null',
      'Dir::State::Lists',
      `${state}/lists`,
      'Dir::Cache',
      state,
      'APT::Sandbox::User',
      'root',
    ]
    const args = options.flatMap((text, i) => (i % 2 === 0 ? ['-o', `${text}=${options[i + 1]}`] : []))
    await run('apt-get', [...args, '-q', 'update'])
    const depends = await run('apt-cache', [...args, 'depends', 'linux-image-amd64'])
    const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1]
    if (name === undefined) throw new Fault('kernel.package', `${suite} has no kernel linux-image-amd64`)
    await run('apt-get', [...args, '-q', 'download', name], { cwd: state })
    mkdirSync(folder, { recursive: true })
    await run('sh', ['-c', 'dpkg-deb -x "$1"/linux-image-*.deb "$2"', 'sh', state, folder])
  } finally {
    rmSync(state, { recursive: true, force: true })
  }
}
