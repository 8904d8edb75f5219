import type { IpsecShape } from '#core/ipsec/shape.ts'
import type { EncryptionType } from '#core/transition/mode.ts'
import { ipsecShape, type PlanConfig, type Snapshot } from './snapshot.ts'

/** Bytes, as Cilium's. IPv6 20 + UDP 8 + header 16 + tag 16 and padding: what Linux' own device takes off. */
const WIREGUARD_OVERHEAD = 80
/** IPv4 20 + UDP 8 + VXLAN 8 + Ethernet 14. */
const VXLAN_OVERHEAD = 50
const VXLAN_OVERHEAD_IPV6 = 70

const IP_HEADER = { 4: 20, 6: 40 } as const
const UDP_HEADER = 8
/** SPI and sequence number; after the padding its length and the next header (RFC 4303 section 2). */
const ESP_HEADER = 8
const ESP_TRAILER = 2

/** Per algorithm of core/ipsec, bytes: on each packet, and what payload and trailer are padded to a multiple of. */
const ALGORITHMS = [
  { name: 'AES-GCM, ChaCha20-Poly1305', iv: 8, icv: 16, align: 4 },
  { name: 'AES-CBC with HMAC-SHA-256', iv: 16, icv: 16, align: 16 },
  { name: 'AES-CBC with HMAC-SHA-384', iv: 16, icv: 24, align: 16 },
  { name: 'AES-CBC with HMAC-SHA-512', iv: 16, icv: 32, align: 16 },
] as const

export function wireguardMtu(snapshot: Snapshot): number {
  return snapshot.self.underlayMtu - WIREGUARD_OVERHEAD
}

/** Of packets inside the IPsec device: the least of all algorithms, so that a new key never asks for another MTU. */
export function ipsecMtu(snapshot: Snapshot, shape: IpsecShape = snapshot.config.encryption.ipsec.shape): number {
  const { self } = snapshot
  const inside = shape === 'esp-in-vxlan'
  const room = inside ? self.underlayMtu - vxlanOverhead(snapshot) : self.underlayMtu
  // where a node has both, one peer with IPv6 alone is enough to have it outside
  const outer = IP_HEADER[(inside ? self.internalIps : self.nodeIps)[6] === undefined ? 4 : 6]
  const payload = room - outer - (shape === 'udp' ? UDP_HEADER : 0) - ESP_HEADER
  return Math.min(
    ...ALGORITHMS.map(({ iv, icv, align }) => {
      const encrypted = payload - iv - icv
      return encrypted - (encrypted % align) - ESP_TRAILER
    }),
  )
}

/** Of the device that what is to be encrypted that way is routed into. */
export function encryptionMtu(snapshot: Snapshot, type: EncryptionType): number {
  return type === 'ipsec' ? ipsecMtu(snapshot) : wireguardMtu(snapshot)
}

/** Of what goes between nodes as it is. */
function clearMtu(snapshot: Snapshot): number {
  return snapshot.self.underlayMtu - (snapshot.config.native === undefined ? vxlanOverhead(snapshot) : 0)
}

/** `cilium_vxlan` itself: of what it carries in clear or, with IPsec beneath it, encrypted. */
export function vxlanMtu(snapshot: Snapshot): number {
  const underneath =
    ipsecShape(snapshot.config) === 'vxlan-in-esp' ? ipsecMtu(snapshot, 'vxlan-in-esp') : snapshot.self.underlayMtu
  return underneath - vxlanOverhead(snapshot)
}

function vxlanOverhead({ self }: Snapshot): number {
  return self.nodeIps[4] === undefined ? VXLAN_OVERHEAD_IPV6 : VXLAN_OVERHEAD
}

/**
 * Of pods' devices, both ends: the smaller of what WireGuard and VXLAN carry, whether encryption is on or not and whichever
 * it is. A pod's own end is set only when it is made, and a veth drops in silence what is larger than the other end's MTU:
 * lowered when encryption is turned on, the host's end lost every full packet of the pods that were there.
 */
export function podDeviceMtu(snapshot: Snapshot): number {
  return Math.min(wireguardMtu(snapshot), clearMtu(snapshot))
}

/**
 * Of the pods' own default route: what fits the way that this configuration asks for, on or off. Pods from before IPsec was
 * asked for are told by the kernel (ICMP), since nothing between their device and the encryption device drops in silence.
 */
export function podMtu(snapshot: Snapshot): number {
  const shape = ipsecShape(snapshot.config)
  const device = podDeviceMtu(snapshot)
  if (shape === undefined) return device
  // whether UDP is around it can change without a new pod
  const own = ipsecMtu(snapshot, shape === 'esp' ? 'udp' : shape)
  return Math.min(device, shape === 'vxlan-in-esp' ? own - vxlanOverhead(snapshot) : own)
}

export function gsoMaxSize(config: PlanConfig): number {
  return config.gsoMaxSize
}
