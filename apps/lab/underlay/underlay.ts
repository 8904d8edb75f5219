import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Hierarchies, makeGroup } from '../cgroups.ts'
import type { LabLayout, LabNode } from '../layout.ts'
import { ENTER, startHolder } from '../node/node.ts'
import { run, startDetached } from '../process/run.ts'

/** The cgroup of everything of a lab that is no node. */
export const UNDERLAY_GROUP = 'underlay'
/** The name of the bridge, in its own namespace; `lab capture underlay` listens on it. */
export const BRIDGE = 'underlay'

/** Makes bridge and namespace; gives the process id that holds them. */
export async function startUnderlay(layout: LabLayout, hierarchies: Hierarchies, logs: string): Promise<number> {
  const groups = makeGroup(hierarchies, layout.name, UNDERLAY_GROUP)
  const script = fileURLToPath(new URL('underlay.sh', import.meta.url))
  const addresses = layout.underlayNetworks.map(({ gateway, prefix }) => `${gateway}/${prefix}`)
  const unshare = ['unshare', '-n', '--fork', '--kill-child', 'sh', script, ...addresses]
  return await startHolder(groups, unshare, join(logs, 'underlay.log'), 'the underlay')
}

/** Joins a node to the bridge as eth0, with its addresses and the way out. */
export async function plug(layout: LabLayout, node: LabNode, underlayPid: number, nodePid: number): Promise<void> {
  const port = `node${node.index}`
  // a node that was cut off leaves its port until the kernel has cleaned up
  await inNetwork(underlayPid, 'ip', ['link', 'delete', port], []).catch(() => undefined)
  await inNetwork(
    underlayPid,
    'ip',
    ['-batch', '-'],
    [
      `link add ${port} type veth peer name eth0 netns ${nodePid}`,
      `link set ${port} alias ${node.name} master ${BRIDGE} up`,
    ],
  )
  await inNetwork(
    nodePid,
    'ip',
    ['-batch', '-'],
    [
      ...node.addresses.map((address, index) => {
        const prefix = layout.underlayNetworks[index]?.prefix ?? 0
        return `address add ${address}/${prefix} dev eth0${address.includes(':') ? ' nodad' : ''}`
      }),
      'link set eth0 up',
      ...layout.underlayNetworks.map(({ gateway }) => {
        return `route add default via ${gateway} dev eth0`
      }),
    ],
  )
}

/** Runs a program in the network namespace of `pid`, its input from lines. */
async function inNetwork(
  pid: number,
  program: string,
  args: readonly string[],
  lines: readonly string[],
): Promise<void> {
  await run('nsenter', [`--net=/proc/${pid}/ns/net`, program, ...args], { input: `${lines.join('\n')}\n` })
}

/** The way outside: user-mode NAT by slirp4netns, a plain process of the machine. */
export function startOutside(layout: LabLayout, hierarchies: Hierarchies, underlayPid: number, logs: string): number {
  const groups = makeGroup(hierarchies, layout.name, UNDERLAY_GROUP)
  const ipv6 = layout.family === 'ipv4' ? [] : ['--enable-ipv6']
  const command = ['slirp4netns', '--configure', '--mtu=1500', '--disable-host-loopback', ...ipv6]
  return startDetached(
    'sh',
    ['-c', ENTER, 'sh', String(groups.length), ...groups, ...command, String(underlayPid), 'tap0'],
    join(logs, 'slirp4netns.log'),
  )
}
