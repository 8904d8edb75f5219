import { accessSync, constants, existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Fault } from '#core/fault/fault.ts'
import { freeUnderlay } from './layout.ts'
import { LOOPBACK } from './node/node.ts'
import { run } from './process/run.ts'
import { missingPrograms, programsFolder } from './programs/cache.ts'
import { CLUSTER_PROGRAMS, PROGRAMS } from './programs/pins.ts'
import { programVersion } from './programs/version.ts'

/** Debian packages that a lab runs, by the program that shows they are there. */
const MACHINE_PROGRAMS = {
  containerd: 'containerd',
  runc: 'runc',
  ip: 'iproute2',
  nft: 'nftables',
  nsenter: 'util-linux',
  unshare: 'util-linux',
  slirp4netns: 'slirp4netns',
  tcpdump: 'tcpdump',
} as const

/** Says what is missing before anything is made; gives the folder of the Kubernetes programs. */
export async function checkMachine(kubernetesBin: string | undefined): Promise<string> {
  if (process.getuid?.() !== 0) {
    throw new Fault('lab.root', 'the lab makes namespaces and mounts, which needs root', { remedy: 'Run it as root' })
  }
  const lacking = Object.entries<string>(MACHINE_PROGRAMS).filter(([program]) => !onPath(program))
  if (!existsSync(LOOPBACK)) lacking.push([LOOPBACK, 'containernetworking-plugins'])
  if (lacking.length > 0) {
    const packages = [...new Set(lacking.map(([, name]) => name))].join(' ')
    throw new Fault('lab.packages', `missing: ${lacking.map(([program]) => program).join(', ')}`, {
      remedy: `Run \`make setup\`, or apt-get install ${packages}`,
    })
  }
  if (kubernetesBin !== undefined) return await checkPrograms(kubernetesBin)
  const folder = programsFolder()
  const missing = missingPrograms(folder, CLUSTER_PROGRAMS)
  if (missing.length > 0) {
    throw new Fault('lab.programs', `${folder} lacks ${missing.join(', ')}`, { remedy: 'Run `make setup`' })
  }
  return folder
}

/** The folder of `--kubernetes-bin`, absolute: it must hold all programs of a cluster in the versions that a lab is made for. */
export async function checkPrograms(kubernetesBin: string): Promise<string> {
  const folder = resolve(kubernetesBin)
  const refuse = (sentence: string, remedy: string): never => {
    throw new Fault('lab.programs', `${folder} ${sentence}`, { field: '--kubernetes-bin', remedy })
  }
  const missing = missingPrograms(folder, CLUSTER_PROGRAMS)
  if (missing.length > 0) refuse(`lacks ${missing.join(', ')}`, 'Name a folder that holds them all')
  const wanted = PROGRAMS.filter(({ name }) => (CLUSTER_PROGRAMS as readonly string[]).includes(name))
  const wrong = await Promise.all(
    wanted.map(async (pin) => {
      const version = await programVersion(pin, join(folder, pin.name))
      return version === pin.version ? [] : [`${pin.name} ${version ?? 'of no known version'} (not ${pin.version})`]
    }),
  )
  if (wrong.flat().length > 0) {
    refuse(`holds ${wrong.flat().join(', ')}`, 'Name a folder with these versions, or leave --kubernetes-bin out')
  }
  return folder
}

function onPath(program: string): boolean {
  // sbin is not on every user's path
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin']
  return folders.some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** The nodes' network as `LabOptions.underlay`: one that the machine itself does not use. */
export async function pickUnderlay(): Promise<number> {
  const found = freeUnderlay(await run('ip', ['-4', 'route', 'show', 'table', 'all']))
  if (found !== undefined) return found
  throw new Fault(
    'lab.underlay',
    'the machine has routes into every one of 172.18.0.0/16 to 172.31.0.0/16 and 10.200.0.0/16 to 10.219.0.0/16',
    { remedy: 'Remove one that is not needed, such as a network of Docker (docker network prune)' },
  )
}
