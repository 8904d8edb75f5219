import { accessSync, constants, existsSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '#core/fault/fault.ts'
import { freeUnderlay } from './layout.ts'
import { LOOPBACK } from './node/node.ts'
import { run } from './process/run.ts'
import { missingPrograms, programsFolder } from './programs/cache.ts'
import { CLUSTER_PROGRAMS } from './programs/pins.ts'

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
export function checkMachine(kubernetesBin: string | undefined): string {
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
  const folder = kubernetesBin ?? programsFolder()
  const missing = missingPrograms(folder, CLUSTER_PROGRAMS)
  if (missing.length > 0) {
    throw new Fault('lab.programs', `${folder} lacks ${missing.join(', ')}`, {
      field: '--kubernetes-bin',
      remedy: kubernetesBin === undefined ? 'Run `make setup`' : 'Name a folder that holds them all',
    })
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

/** N of the nodes' network 172.N.0.0/16: one that the machine itself does not use. */
export async function pickUnderlay(): Promise<number> {
  const found = freeUnderlay(await run('ip', ['-4', 'route', 'show', 'table', 'all']))
  if (found !== undefined) return found
  throw new Fault('lab.underlay', 'the machine has routes to every one of 172.18.0.0/16 to 172.31.0.0/16')
}
