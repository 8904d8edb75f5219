import { FAMILIES } from '#core/ip/address.ts'
import { SENDING } from '#core/transition/level.ts'
import { hasVxlan } from './links.ts'
import { VXLAN_DEVICE } from './names.ts'
import { clusterOf, inside, ownOf } from './nft-parts.ts'
import { NFT, nftChain, outside, within } from './nft-text.ts'
import { familiesOf, ofFamily } from './own-node.ts'
import { encryptionDevices, hostLevelOf, type Snapshot } from './snapshot.ts'

/** A mark of kube-proxy that the first NAT makes void would stay on the packet and on what encapsulates it. */
const CLEAR_MARKS = 'meta mark set meta mark & 0xffff3fff'

/** By which address packets leave, where it is not their own. */
export function sourceNat(snapshot: Snapshot): string[] {
  const { config, self } = snapshot
  const families = familiesOf(snapshot)
  const own = ownOf(snapshot)
  const cluster = clusterOf(snapshot)
  const leaving = families.flatMap((n) => {
    const { ip } = NFT[n]
    const fromOwn = (rest: string) => within(`${ip} saddr`, own(n)).map((from) => `${from} ${rest}`)
    return [
      // To nodes whatever `masquerade` says: an answer to a pod's own address would be refused in clear. By snat, since the
      // kernel ends masqueraded connections when they leave by another device, as they do when encryption is turned on.
      ...(self.nodeIps[n] === undefined
        ? []
        : fromOwn(`${ip} daddr @nodes${n} ${CLEAR_MARKS} snat ${ip} to ${self.nodeIps[n]}`)),
      // to pods of other nodes from an address that they answer to by the same way, in clear and encrypted
      ...(config.native === undefined || self.internalIps[n] === undefined
        ? []
        : within(`${ip} daddr`, cluster(n)).map(
            (to) =>
              `${outside(`${ip} saddr`, own(n))} ${to} ${outside(`${ip} daddr`, own(n))} ${CLEAR_MARKS} snat ${ip} to ${self.internalIps[n]}`,
          )),
      ...within(`${ip} daddr`, ofFamily(config.native?.cidrs ?? [], n)).flatMap((to) => fromOwn(`${to} accept`)),
      ...(config.masquerade[n] ? fromOwn(`${outside(`${ip} daddr`, cluster(n))} ${CLEAR_MARKS} masquerade`) : []),
    ]
  })
  const asks = hostLevelOf(config, self.announcement.level) >= SENDING
  const tunnel = FAMILIES.flatMap((n) => {
    const { ip } = NFT[n]
    const [node, internal] = [self.nodeIps[n], self.internalIps[n]]
    return [
      // Pods speak to nodes as their node with and without `nodeEncryption`, so a connection outlives a change of it. For
      // both, "snat" also where it changes nothing: kube-proxy's masquerading, which comes next, would.
      node === undefined || self.optedOut ? undefined : `${ip} daddr @hosts${n} ${CLEAR_MARKS} snat ${ip} to ${node}`,
      // by IPsec without `nodeEncryption` too
      node === undefined || !asks ? undefined : `${ip} daddr @asked${n} ${CLEAR_MARKS} snat ${ip} to ${node}`,
      ...within(`${ip} saddr`, own(n)).map((from) => `${from} accept`),
      internal === undefined ? undefined : `${outside(`${ip} saddr`, own(n))} ${CLEAR_MARKS} snat ${ip} to ${internal}`,
    ]
  })
  return [
    nftChain('source_nat', 'type nat hook postrouting priority srcnat - 5; policy accept;', [
      ...encryptionDevices(config).map((device) => `oifname "${device}" goto tunnel_nat`),
      hasVxlan(snapshot) ? `oifname "${VXLAN_DEVICE}" goto tunnel_nat` : undefined,
      ...inside('oifname'),
      ...leaving,
    ]),
    nftChain('tunnel_nat', undefined, [...tunnel]),
  ]
}
