import { FAMILIES, type Family } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import { CLOSED } from '#core/transition/level.ts'
import { hasVxlan } from './links.ts'
import { HOST_DEVICE, HOST_PEER_DEVICE, POD_DEVICE_PREFIX } from './names.ts'
import { NFT } from './nft-text.ts'
import { ofFamily } from './own-node.ts'
import { ipsecShape, type Snapshot } from './snapshot.ts'

/** What the chains of the node's own table have in common. */

export const both = (rule: (ip: 'ip' | 'ip6', family: Family) => string) =>
  FAMILIES.map((family) => rule(NFT[family].ip, family))

/** The same for each prefix of a list, in both families. */
export const each = (
  cidrs: (family: Family) => readonly Cidr[],
  rules: (ip: 'ip' | 'ip6', cidrs: readonly Cidr[], family: Family) => readonly string[],
) => FAMILIES.flatMap((family) => rules(NFT[family].ip, cidrs(family), family))

/** Prefixes of the whole cluster's pods. */
export function clusterOf({ config }: Snapshot): (family: Family) => readonly Cidr[] {
  return (family) => ofFamily(config.clusterCidrs, family)
}

/** Prefixes of this node's pods. */
export function ownOf({ self }: Snapshot): (family: Family) => readonly Cidr[] {
  return (family) => ofFamily(self.podCidrs, family)
}

/** Devices inside the node; what uses them is not on the wire. */
export const INSIDE = ['lo', `${POD_DEVICE_PREFIX}*`, HOST_DEVICE, HOST_PEER_DEVICE]

export function inside(direction: 'iifname' | 'oifname'): string[] {
  return INSIDE.map((name) => `${direction} "${name}" accept`)
}

export function isClosed(snapshot: Snapshot): boolean {
  return snapshot.self.announcement.level === CLOSED
}

/** Nothing of this node's own goes to other nodes in clear, but to opted-out ones. */
export function carriesHosts(snapshot: Snapshot): boolean {
  return isClosed(snapshot) && snapshot.config.encryption.nodeEncryption && !snapshot.self.optedOut
}

/** Closed, and `cilium_vxlan` is there for what is encrypted and for nothing else. */
export function carriesEsp(snapshot: Snapshot): boolean {
  return isClosed(snapshot) && hasVxlan(snapshot) && ipsecShape(snapshot.config) === 'esp-in-vxlan'
}

/** What `cilium_vxlan` sends is what is encrypted. */
export function encryptsVxlan(snapshot: Snapshot): boolean {
  return ipsecShape(snapshot.config) === 'vxlan-in-esp'
}

export function hex(value: number): string {
  return `0x${value.toString(16)}`
}
