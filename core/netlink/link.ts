import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import type { Fault } from '#core/fault/fault.ts'
import type { Result } from '#core/fault/result.ts'
import { type Mac, macFromBytes, macToBytes } from '#core/ip/mac.ts'
import { AttributeWriter, readAttributes, readBytes, readText, readU8, readU32 } from './attribute.ts'
import { type LinkKind, readLinkKind, type Vxlan, writeVxlan, writeXfrmInterface } from './link-kind.ts'
import { guarded, type NetlinkMessage, type NetlinkRequest, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from './message.ts'
import { AF_INET6, AF_UNSPEC, RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK } from './rtnetlink.ts'

/** include/uapi/linux/if_link.h */
const IFLA_ADDRESS = 1
const IFLA_IFNAME = 3
const IFLA_MTU = 4
const IFLA_LINK = 5
const IFLA_MASTER = 10
const IFLA_OPERSTATE = 16
const IFLA_LINKINFO = 18
const IFLA_NET_NS_PID = 19
const IFLA_IFALIAS = 20
const IFLA_AF_SPEC = 26
const IFLA_NET_NS_FD = 28
const IFLA_EXT_MASK = 29
const IFLA_LINK_NETNSID = 37
const IFLA_GSO_MAX_SEGS = 40
const IFLA_GSO_MAX_SIZE = 41
const IFLA_GRO_MAX_SIZE = 58
const IFLA_INFO_KIND = 1
const IFLA_INFO_DATA = 2
const VETH_INFO_PEER = 1
const IFLA_INET6_ADDR_GEN_MODE = 8
/** Leaves out statistics: a third of the bytes of a dump. */
const RTEXT_FILTER_SKIP_STATS = 1 << 3

const IFF_UP = 0x1
const IFF_LOOPBACK = 0x8
const IFF_RUNNING = 0x40

/** No link-local address is made (ADR 0004). */
export const ADDR_GEN_MODE_NONE = 1

/** A link as the kernel tells of it. */
export interface Link {
  readonly index: number
  readonly name: string
  readonly up: boolean
  /** Administratively up and with carrier. */
  readonly running: boolean
  readonly loopback: boolean
  readonly mtu?: number
  /** Absent on devices without Ethernet (TUN, WireGuard, tunnels). */
  readonly mac?: Mac
  readonly alias?: string
  readonly gsoMaxSize?: number
  readonly gsoMaxSegs?: number
  readonly groMaxSize?: number
  readonly master?: number
  /** Of a veth: the peer's index, in the namespace `peerNamespaceId` or our own. */
  readonly peerIndex?: number
  readonly peerNamespaceId?: number
  readonly addrGenMode?: number
  /** if_oper: 2 is down, 6 up, 0 unknown. */
  readonly operState?: number
  readonly kind: LinkKind
}

/** What may be set on a link, new or existing. */
export interface LinkAttributes {
  readonly name?: string
  readonly mtu?: number
  readonly mac?: Mac
  readonly alias?: string
  readonly up?: boolean
  readonly gsoMaxSize?: number
  readonly gsoMaxSegs?: number
  readonly groMaxSize?: number
  readonly addrGenMode?: number
  /** Another network namespace: an open descriptor of it, or a process in it. */
  readonly namespace?: { readonly fd: number } | { readonly pid: number }
}

export type NewLink = LinkAttributes & { readonly name: string } & (
    | { readonly kind: 'veth'; readonly peer: LinkAttributes & { readonly name: string } }
    | { readonly kind: 'vxlan'; readonly vxlan: Vxlan }
    /** EOPNOTSUPP: this kernel has none. */
    | { readonly kind: 'wireguard' }
    /** The same. The kernel wants no id of 0. */
    | { readonly kind: 'xfrm'; readonly interfaceId: number }
  )

/** Fails with EEXIST when the name (or the peer's) is taken. */
export function newLink(link: NewLink): NetlinkRequest {
  const attributes = begin(0, link)
  // the kernel takes the address family's part of a link that does not exist yet only afterwards: see setLink
  attributes.nested(IFLA_LINKINFO, (info) => {
    info.text(IFLA_INFO_KIND, link.kind)
    if (link.kind === 'wireguard') return
    info.nested(IFLA_INFO_DATA, (data) => {
      if (link.kind === 'vxlan') writeVxlan(data, link.vxlan)
      else if (link.kind === 'xfrm') writeXfrmInterface(data, link.interfaceId)
      else
        data.nested(VETH_INFO_PEER, (peer) => {
          putHeader(peer.writer, 0, link.peer)
          putAttributes(peer, link.peer)
        })
    })
  })
  return { type: RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL, body: attributes.finish() }
}

export function setLink(index: number, link: LinkAttributes): NetlinkRequest {
  return { type: RTM_SETLINK, flags: 0, body: begin(index, link).finish() }
}

export function deleteLink(index: number): NetlinkRequest {
  return { type: RTM_DELLINK, flags: 0, body: begin(index, {}).finish() }
}

/** One link, by index or by name. */
export function getLink(which: { readonly index: number } | { readonly name: string }): NetlinkRequest {
  const attributes = 'index' in which ? begin(which.index, {}) : begin(0, { name: which.name })
  attributes.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
  return { type: RTM_GETLINK, flags: 0, body: attributes.finish() }
}

export function dumpLinks(): NetlinkRequest {
  const body = begin(0, {}).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS).finish()
  return { type: RTM_GETLINK, flags: NLM_F_DUMP, body }
}

/** struct ifinfomsg: u8 family, u8 pad, u16 type, i32 index, u32 flags, u32 which flags to change. */
function putHeader(writer: Writer, index: number, link: LinkAttributes): void {
  const changed = link.up === undefined ? 0 : IFF_UP
  writer
    .u8(AF_UNSPEC)
    .u8(0)
    .u16le(0)
    .i32le(index)
    .u32le(link.up === true ? IFF_UP : 0)
    .u32le(changed)
}

function begin(index: number, link: LinkAttributes): AttributeWriter {
  const writer = new Writer()
  putHeader(writer, index, link)
  const attributes = new AttributeWriter(writer)
  putAttributes(attributes, link)
  return attributes
}

function putAttributes(to: AttributeWriter, link: LinkAttributes): void {
  if (link.name !== undefined) to.text(IFLA_IFNAME, link.name)
  if (link.mtu !== undefined) to.u32(IFLA_MTU, link.mtu)
  if (link.mac !== undefined) to.bytes(IFLA_ADDRESS, macToBytes(link.mac))
  if (link.alias !== undefined) to.bytes(IFLA_IFALIAS, new TextEncoder().encode(link.alias))
  if (link.gsoMaxSize !== undefined) to.u32(IFLA_GSO_MAX_SIZE, link.gsoMaxSize)
  if (link.gsoMaxSegs !== undefined) to.u32(IFLA_GSO_MAX_SEGS, link.gsoMaxSegs)
  if (link.groMaxSize !== undefined) to.u32(IFLA_GRO_MAX_SIZE, link.groMaxSize)
  const { addrGenMode, namespace } = link
  if (addrGenMode !== undefined) {
    to.nested(IFLA_AF_SPEC, (spec) => spec.nested(AF_INET6, (inet6) => inet6.u8(IFLA_INET6_ADDR_GEN_MODE, addrGenMode)))
  }
  if (namespace !== undefined) {
    if ('fd' in namespace) to.u32(IFLA_NET_NS_FD, namespace.fd)
    else to.u32(IFLA_NET_NS_PID, namespace.pid)
  }
}

/** Of RTM_NEWLINK and RTM_DELLINK. */
export function decodeLink(message: NetlinkMessage): Result<Link, Fault> {
  return guarded(() => {
    const reader = new Reader(message.body)
    reader.skip(4)
    const index = reader.i32le()
    const flags = reader.u32le()
    reader.skip(4)
    const link: { -readonly [K in keyof Link]: Link[K] } = {
      index,
      name: '',
      up: (flags & IFF_UP) !== 0,
      running: (flags & IFF_RUNNING) !== 0,
      loopback: (flags & IFF_LOOPBACK) !== 0,
      kind: { kind: undefined },
    }
    for (const attribute of readAttributes(reader)) {
      switch (attribute.type) {
        case IFLA_IFNAME:
          link.name = readText(attribute)
          break
        case IFLA_MTU:
          link.mtu = readU32(attribute)
          break
        case IFLA_ADDRESS: {
          const bytes = readBytes(attribute)
          if (bytes.length === 6) link.mac = macFromBytes(bytes)
          break
        }
        case IFLA_IFALIAS:
          link.alias = readText(attribute)
          break
        case IFLA_GSO_MAX_SIZE:
          link.gsoMaxSize = readU32(attribute)
          break
        case IFLA_GSO_MAX_SEGS:
          link.gsoMaxSegs = readU32(attribute)
          break
        case IFLA_GRO_MAX_SIZE:
          link.groMaxSize = readU32(attribute)
          break
        case IFLA_LINK:
          link.peerIndex = readU32(attribute)
          break
        case IFLA_LINK_NETNSID:
          link.peerNamespaceId = readU32(attribute)
          break
        case IFLA_MASTER:
          link.master = readU32(attribute)
          break
        case IFLA_OPERSTATE:
          link.operState = readU8(attribute)
          break
        case IFLA_LINKINFO:
          link.kind = readLinkKind(attribute.reader)
          break
        case IFLA_AF_SPEC: {
          const mode = readAddrGenMode(attribute.reader)
          if (mode !== undefined) link.addrGenMode = mode
          break
        }
      }
    }
    return link
  })
}

function readAddrGenMode(reader: Reader): number | undefined {
  for (const family of readAttributes(reader)) {
    if (family.type !== AF_INET6) continue
    for (const attribute of readAttributes(family.reader)) {
      if (attribute.type === IFLA_INET6_ADDR_GEN_MODE) return readU8(attribute)
    }
  }
  return undefined
}
