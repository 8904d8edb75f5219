import { CLEAR } from '#core/transition/level.ts'
import type { PlanConfig, Snapshot } from './snapshot.ts'

/** Bytes, cilium.md 3.1. IPv6 20 + UDP 8 + header 16 + tag 16 and padding: what Linux' own device takes off. */
export const WIREGUARD_OVERHEAD = 80
/** IPv4 20 + UDP 8 + VXLAN 8 + Ethernet 14. */
export const VXLAN_OVERHEAD = 50
export const VXLAN_OVERHEAD_IPV6 = 70

export function wireguardMtu(snapshot: Snapshot): number {
  return snapshot.self.underlayMtu - WIREGUARD_OVERHEAD
}

export function vxlanMtu(snapshot: Snapshot): number {
  return snapshot.self.underlayMtu - (snapshot.self.nodeIps[4] === undefined ? VXLAN_OVERHEAD_IPV6 : VXLAN_OVERHEAD)
}

/** Whether packets may be encrypted now or soon: then pods are kept small enough for it before it begins. */
export function encryptionInSight(snapshot: Snapshot): boolean {
  return snapshot.config.encryption.enabled || snapshot.self.announcement.level > CLEAR
}

/** Of pods' devices, both ends. In the direct shape a packet is encapsulated once: never both overheads. */
export function podMtu(snapshot: Snapshot): number {
  return encryptionInSight(snapshot) ? Math.min(wireguardMtu(snapshot), vxlanMtu(snapshot)) : vxlanMtu(snapshot)
}

/** Absent in clear: the kernel's own limit is the right one there. */
export function podGso(snapshot: Snapshot): { readonly gsoMaxSize?: number } {
  return encryptionInSight(snapshot) ? { gsoMaxSize: gsoMaxSize(snapshot.config) } : {}
}

export function gsoMaxSize(config: PlanConfig): number {
  return config.gsoMaxSize
}
