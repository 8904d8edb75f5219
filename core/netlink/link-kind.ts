import type { Reader } from '#core/bytes/reader.ts'
import { type Ip, ipToBytes } from '#core/ip/address.ts'
import { type AttributeWriter, readAttributes, readText, readU8, readU16be, readU32 } from './attribute.ts'
import { AF_INET, afOfIp, readIp } from './rtnetlink.ts'

/** The part of a link that belongs to its kind (IFLA_LINKINFO, include/uapi/linux/if_link.h). */
const IFLA_INFO_KIND = 1
const IFLA_INFO_DATA = 2

const IFLA_VXLAN_ID = 1
const IFLA_VXLAN_LOCAL = 4
const IFLA_VXLAN_LEARNING = 7
const IFLA_VXLAN_PORT = 15
const IFLA_VXLAN_LOCAL6 = 17

const IFLA_TUN_TYPE = 3
const IFLA_TUN_VNET_HDR = 5
const IFLA_TUN_PERSIST = 6
const IFLA_TUN_MULTI_QUEUE = 7
const IFLA_TUN_NUM_QUEUES = 8

const IFLA_XFRM_IF_ID = 2

export interface Vxlan {
  readonly vni: number
  /** UDP port of ours and of every peer. */
  readonly port: number
  readonly local?: Ip
  /** Whether the kernel learns peers from what arrives. */
  readonly learning: boolean
}

export type LinkKind =
  | ({ readonly kind: 'vxlan' } & Vxlan)
  | { readonly kind: 'veth' }
  /** What is in it is told by generic netlink (wireguard-device.ts). */
  | { readonly kind: 'wireguard' }
  /** What is routed into it takes policies and states of that id, and what those decrypt comes out of it. */
  | { readonly kind: 'xfrm'; readonly interfaceId: number }
  | {
      readonly kind: 'tun'
      readonly tap: boolean
      readonly vnetHeader: boolean
      readonly persistent: boolean
      /** Absent on a device of one queue. */
      readonly queues?: number
    }
  /** Any other: `name` is the kernel's. */
  | { readonly kind: 'other'; readonly name: string }
  /** A device without a kind, e.g. hardware or `lo`. */
  | { readonly kind: undefined }

/** The kernel's name of the kind. */
export function kindName(kind: LinkKind): string {
  return kind.kind === 'other' ? kind.name : (kind.kind ?? 'physical')
}

export function writeVxlan(to: AttributeWriter, vxlan: Vxlan): void {
  to.u32(IFLA_VXLAN_ID, vxlan.vni)
  if (vxlan.local !== undefined) {
    to.bytes(afOfIp(vxlan.local) === AF_INET ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, ipToBytes(vxlan.local))
  }
  to.u8(IFLA_VXLAN_LEARNING, vxlan.learning ? 1 : 0)
  to.u16be(IFLA_VXLAN_PORT, vxlan.port)
}

export function writeXfrmInterface(to: AttributeWriter, interfaceId: number): void {
  to.u32(IFLA_XFRM_IF_ID, interfaceId)
}

export function readLinkKind(reader: Reader): LinkKind {
  let name: string | undefined
  let data: Reader | undefined
  for (const attribute of readAttributes(reader)) {
    if (attribute.type === IFLA_INFO_KIND) name = readText(attribute)
    else if (attribute.type === IFLA_INFO_DATA) data = attribute.reader
  }
  switch (name) {
    case undefined:
      return { kind: undefined }
    case 'veth':
      return { kind: 'veth' }
    case 'wireguard':
      return { kind: 'wireguard' }
    case 'vxlan':
      return readVxlan(data)
    case 'tun':
      return readTun(data)
    case 'xfrm':
      return { kind: 'xfrm', interfaceId: readInterfaceId(data) }
    default:
      return { kind: 'other', name }
  }
}

function readVxlan(data: Reader | undefined): LinkKind {
  const vxlan: { vni: number; port: number; local?: Ip; learning: boolean } = { vni: 0, port: 0, learning: false }
  for (const attribute of data === undefined ? [] : readAttributes(data)) {
    switch (attribute.type) {
      case IFLA_VXLAN_ID:
        vxlan.vni = readU32(attribute)
        break
      case IFLA_VXLAN_PORT:
        vxlan.port = readU16be(attribute)
        break
      case IFLA_VXLAN_LOCAL:
      case IFLA_VXLAN_LOCAL6:
        vxlan.local = readIp(attribute)
        break
      case IFLA_VXLAN_LEARNING:
        vxlan.learning = readU8(attribute) !== 0
        break
    }
  }
  return { kind: 'vxlan', ...vxlan }
}

/** 0, which no xfrm interface can have: the kernel did not say it. */
function readInterfaceId(data: Reader | undefined): number {
  const attributes = data === undefined ? [] : readAttributes(data)
  const found = attributes.find(({ type }) => type === IFLA_XFRM_IF_ID)
  return found === undefined ? 0 : readU32(found)
}

function readTun(data: Reader | undefined): LinkKind {
  const flags = new Map<number, number>()
  let queues: number | undefined
  for (const attribute of data === undefined ? [] : readAttributes(data)) {
    if (attribute.type === IFLA_TUN_NUM_QUEUES) queues = readU32(attribute)
    else if (attribute.type >= IFLA_TUN_TYPE && attribute.type <= IFLA_TUN_MULTI_QUEUE) {
      flags.set(attribute.type, readU8(attribute))
    }
  }
  return {
    kind: 'tun',
    // IFF_TUN is 1, IFF_TAP 2
    tap: flags.get(IFLA_TUN_TYPE) === 2,
    vnetHeader: flags.get(IFLA_TUN_VNET_HDR) === 1,
    persistent: flags.get(IFLA_TUN_PERSIST) === 1,
    ...(queues === undefined ? {} : { queues }),
  }
}
