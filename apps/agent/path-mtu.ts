import type { Ip } from '#core/ip/address.ts'
import { nodeObject, type Problem } from '#core/plan/problem.ts'
import { ipsecShape } from '#core/plan/snapshot.ts'
import type { Applied } from './network.ts'
import type { HostNetwork } from './ports.ts'

/**
 * ESP leaves with "don't fragment", as large as this node's own device takes it, and nobody's ICMP is believed (anybody can
 * send it: docs/protocol/engine.md). So where the network between two nodes takes less than their devices do, full packets
 * are lost. The kernel keeps what it was told all the same, and here it is told on.
 */

/** What was said of the ways to other nodes' ends. WireGuard's packets and VXLAN's are cut where they do not fit. */
export async function saidOfPaths(host: HostNetwork, applied: Applied | undefined): Promise<ReadonlyMap<Ip, number>> {
  const ipsec = applied?.plan.ipsec
  if (ipsec === undefined || applied === undefined) return new Map()
  if (ipsecShape(applied.snapshot.config) === 'esp-in-vxlan') return new Map()
  return await host.pathMtus(
    ipsec.peers.map(({ destination }) => destination),
    ipsec.mark,
  )
}

/**
 * Only of ends that are narrower than what this node sends. What has the size of the device that encrypts was said by this
 * node itself: of packets for the other node's own address that were too large for it.
 */
export function pathProblems(applied: Applied | undefined, said: ReadonlyMap<Ip, number>): readonly Problem[] {
  const sent = applied?.snapshot.self.underlayMtu ?? 0
  const device = applied?.plan.ipsec?.mtu
  return (applied?.plan.ipsec?.peers ?? []).flatMap(({ node, destination }) => {
    const mtu = said.get(destination)
    if (mtu === undefined || mtu >= sent || mtu === device) return []
    return [
      {
        code: 'path.mtu',
        object: nodeObject(node),
        message: `the way to ${destination} takes ${mtu} bytes, says somebody on it, and this node sends packets of up to ${sent} there: larger ones are lost`,
        remedy: `Where that is true (ping -M do -s ${mtu - (destination.includes(':') ? 48 : 28)} ${destination} is answered, and one byte more is not), set MTU=${mtu} for all nodes (upgrade --set MTU=${mtu}) or correct the network`,
      },
    ]
  })
}
