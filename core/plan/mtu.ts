import type { PlanConfig, Snapshot } from './snapshot.ts'

/** Bytes, as Cilium's. IPv6 20 + UDP 8 + header 16 + tag 16 and padding: what Linux' own device takes off. */
const WIREGUARD_OVERHEAD = 80
/** IPv4 20 + UDP 8 + VXLAN 8 + Ethernet 14. */
const VXLAN_OVERHEAD = 50
const VXLAN_OVERHEAD_IPV6 = 70

export function wireguardMtu(snapshot: Snapshot): number {
  return snapshot.self.underlayMtu - WIREGUARD_OVERHEAD
}

export function vxlanMtu(snapshot: Snapshot): number {
  return snapshot.self.underlayMtu - (snapshot.self.nodeIps[4] === undefined ? VXLAN_OVERHEAD_IPV6 : VXLAN_OVERHEAD)
}

/**
 * Of pods' devices, both ends, and of what leads to pods: the smaller of what the two ways carry, whether encryption is on
 * or not. A pod's own end is set only when it is made, and a veth drops in silence what is larger than the other end's MTU:
 * lowered when encryption is turned on, the host's end lost every full packet of the pods that were there. In the
 * direct shape a packet is encapsulated once: never both overheads.
 */
export function podMtu(snapshot: Snapshot): number {
  return Math.min(wireguardMtu(snapshot), vxlanMtu(snapshot))
}

export function gsoMaxSize(config: PlanConfig): number {
  return config.gsoMaxSize
}
