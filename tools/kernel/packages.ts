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

/** As {@link unpackPackages}, of the kernel that the suite's `linux-image-amd64` depends on. About 100 MB. */
export async function unpackKernel(suite: string, folder: string): Promise<void> {
  await unpackPackages(suite, folder, async (apt) => {
    const depends = await run('apt-cache', [...apt, 'depends', 'linux-image-amd64'])
    const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1]
    if (name === undefined) throw new Fault('kernel.package', `${suite} has no kernel linux-image-amd64`)
    return [name]
  })
}

/**
 * Unpacks the files of Debian packages into `folder`, not what they depend on; nothing is installed. The machine's own
 * proxies are used, and its mirror by PELLICLE_DEBIAN_MIRROR (for …/debian). `choose`: names, by the options that `apt-*`
 * needs to know that suite.
 */
export async function unpackPackages(
  suite: string,
  folder: string,
  choose: (apt: readonly string[]) => Promise<readonly string[]> | readonly string[],
): Promise<void> {
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
    const apt = options.flatMap((text, i) => (i % 2 === 0 ? ['-o', `${text}=${options[i + 1]}`] : []))
    await run('apt-get', [...apt, '-q', 'update'])
    await run('apt-get', [...apt, '-q', 'download', ...(await choose(apt))], { cwd: state })
    mkdirSync(folder, { recursive: true })
    await run('sh', ['-c', 'for file in "$1"/*.deb; do dpkg-deb -x "$file" "$2"; done', 'sh', state, folder])
  } finally {
    rmSync(state, { recursive: true, force: true })
  }
}
