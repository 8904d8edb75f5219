import { FAMILIES, type Ip } from '#core/ip/address.ts'
import type { EncryptionType } from '#core/transition/mode.ts'
import { hasVxlan } from './links.ts'
import { POD_DEVICE_PREFIX } from './names.ts'
import { both, hex } from './nft-parts.ts'
import { drop, NFT, nftChain } from './nft-text.ts'
import { hasDevice } from './own-node.ts'
import { encryptionTypes, ipsecShape, type Snapshot } from './snapshot.ts'

/**
 * The packets that carry all others between nodes: what connection tracking and pods must keep their hands off.
 *
 * Pods speak to other nodes as their own node (nft-nat.ts), so what a pod sends from UDP 4500 to another node's 4500 looks
 * like the engine's own. Tracked, the answer to it, which is whatever the other engine sends, is the pod's; and ESP has no
 * port to tell two by, so the engine's own would be refused.
 */

const ESP = 'meta l4proto esp'

/** What encrypted packets look like where they arrive, by type. */
function carriersOf({ config: { encryption, tunnel } }: Snapshot, type: EncryptionType): readonly string[] {
  if (type === 'wireguard') return [`udp dport ${encryption.listenPort}`]
  const { shape, port } = encryption.ipsec
  if (shape === 'esp-in-vxlan') return [`udp dport ${tunnel.port}`]
  if (shape === 'vxlan-in-esp') return [ESP]
  // the engine takes either, and a node that has not read yet that it is to be the other one sends by the former
  return [`udp dport ${port}`, ESP]
}

/** What carries the rest between nodes, from a packet's first look at it. */
export function carriers(snapshot: Snapshot): readonly string[] {
  return encryptionTypes(snapshot.config).flatMap((type) => carriersOf(snapshot, type))
}

/** The same of what is there at this level, VXLAN in clear as well. */
function carriersThere(snapshot: Snapshot): readonly string[] {
  const encrypted = encryptionTypes(snapshot.config)
    .filter((type) => hasDevice(snapshot, type))
    .flatMap((type) => carriersOf(snapshot, type))
  const vxlan = hasVxlan(snapshot) ? [`udp dport ${snapshot.config.tunnel.port}`] : []
  return [...new Set([...encrypted, ...vxlan])]
}

/** A pod has nothing to say where only nodes listen: what it sends there has its node's address. */
export function carriersByPods(snapshot: Snapshot): readonly string[] {
  const { port } = snapshot.config.tunnel
  const encrypted = carriersThere(snapshot).filter((carrier) => carrier !== `udp dport ${port}`)
  const rule = (carrier: string, counter: string) =>
    both((ip, n) => `iifname "${POD_DEVICE_PREFIX}*" ${carrier} ${ip} daddr @nodes${n} ${drop(counter)}`)
  return [
    // whatever is there: else a pod could write frames that the next node takes for ours
    ...rule(`udp dport ${port}`, 'vxlan_by_pod'),
    ...encrypted.flatMap((carrier) => rule(carrier, 'carrier_by_pod')),
  ]
}

/**
 * Both ways, whatever connection tracking may know from before: an entry that somebody else made there first must not
 * give these packets another port, another receiver, or none. By this node's addresses, not by "local": what kube-proxy
 * puts on a device of its own is Services', which may have the same port.
 */
export function untracked(snapshot: Snapshot): readonly string[] {
  const { config, self } = snapshot
  const there = carriersThere(snapshot)
  if (there.length === 0) return []
  const { bits, mask } = config.mark
  const vxlan = `udp dport ${config.tunnel.port}`
  const carriesEsp = ipsecShape(config) === 'esp-in-vxlan' && hasDevice(snapshot, 'ipsec')
  return [
    nftChain(
      'untracked_in',
      'type filter hook prerouting priority raw; policy accept;',
      FAMILIES.flatMap((n) => {
        const to = (ip: Ip | undefined, list: readonly string[]) =>
          ip === undefined ? [] : list.map((carrier) => `${NFT[n].ip} daddr ${ip} ${carrier} notrack`)
        // inside VXLAN it goes between internal IPs
        const inside = carriesEsp ? to(self.internalIps[n], [ESP]) : []
        return [...to(self.nodeIps[n], there), ...inside]
      }),
    ),
    nftChain('untracked_out', 'type filter hook output priority raw; policy accept;', [
      `meta l4proto { udp, esp } meta mark & ${hex(mask)} == ${hex(bits)} notrack`,
      ...(there.includes(vxlan) ? both((ip, n) => `${vxlan} ${ip} daddr @nodes${n} notrack`) : []),
    ]),
  ]
}
