/**
 * What pods' packets look like on the wire (docs/adr/0008):
 * - `udp`: ESP in UDP (RFC 3948) between node IPs;
 * - `esp`: IP protocol 50 between node IPs;
 * - `esp-in-vxlan`: IP protocol 50 between internal IPs, carried by `cilium_vxlan` (Cilium up to 1.17);
 * - `vxlan-in-esp`: what `cilium_vxlan` sends, in IP protocol 50 between node IPs (Cilium from 1.18).
 */
export type IpsecShape = 'udp' | 'esp' | 'esp-in-vxlan' | 'vxlan-in-esp'

/** `encryption.ipsec.udpEncapsulation` */
export type UdpEncapsulation = 'auto' | 'true' | 'false'

export interface ShapeWishes {
  /** A Cilium release such as `1.17` or `1.14.5`; undefined: our own choice. */
  readonly profile: string | undefined
  readonly udpEncapsulation: UdpEncapsulation
  /** `enable-ipsec-encrypted-overlay`: VXLAN inside ESP already with Cilium 1.16 and 1.17. */
  readonly encryptedOverlay: boolean
  /** `routing-mode: native`: there is no VXLAN that anything could go through. */
  readonly native?: boolean
}

/** From here on Cilium encrypts what VXLAN sends, and before VXLAN carried what was encrypted. */
const OVERLAY_ALWAYS = 18
const OVERLAY_POSSIBLE = 16

/** UDP where it was asked for; else what the release does; without a release the fast one. */
export function ipsecShapeFor({ profile, udpEncapsulation, encryptedOverlay, native }: ShapeWishes): IpsecShape {
  if (udpEncapsulation === 'true') return 'udp'
  const minor = /^v?1\.(\d+)/.exec(profile ?? '')?.[1]
  if (minor === undefined) return udpEncapsulation === 'auto' ? 'udp' : 'esp'
  if (native === true) return 'esp'
  const overlay = Number(minor) >= OVERLAY_ALWAYS || (encryptedOverlay && Number(minor) >= OVERLAY_POSSIBLE)
  return overlay ? 'vxlan-in-esp' : 'esp-in-vxlan'
}
