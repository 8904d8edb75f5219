import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import type { Fault } from '#core/fault/fault.ts'
import type { Result } from '#core/fault/result.ts'
import { type Ip, ipToBytes } from '#core/ip/address.ts'
import { type Mac, macFromBytes, macToBytes } from '#core/ip/mac.ts'
import { AttributeWriter, readAttributes, readBytes, readU8 } from './attribute.ts'
import {
  guarded,
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_REPLACE,
} from './message.ts'
import {
  AF_BRIDGE,
  AF_UNSPEC,
  afOfIp,
  familyOfAf,
  RTM_DELNEIGH,
  RTM_GETNEIGH,
  RTM_NEWNEIGH,
  readIp,
  readIpOf,
} from './rtnetlink.ts'

/** include/uapi/linux/neighbour.h */
const NDA_DST = 1
const NDA_LLADDR = 2
const NDA_PROTOCOL = 12
const NUD_NOARP = 0x40
const NUD_PERMANENT = 0x80
const NTF_SELF = 0x02

/** Who has an IP address on a link, for ever: no question is ever sent. */
export interface Neighbour {
  readonly index: number
  readonly ip: Ip
  readonly mac: Mac
  /** Who made it; the same numbers as a route's. */
  readonly protocol: number
}

/** Where a VXLAN device sends frames for `mac`. */
export interface ForwardingEntry {
  readonly index: number
  readonly mac: Mac
  readonly destination: Ip
}

export interface SeenNeighbour extends Omit<Neighbour, 'mac'> {
  readonly mac: Mac | undefined
  readonly permanent: boolean
}

export interface SeenForwardingEntry extends Omit<ForwardingEntry, 'destination'> {
  readonly destination: Ip | undefined
  readonly permanent: boolean
}

/** Takes the place of an entry of that address, whoever made it. */
export function setNeighbour(neighbour: Neighbour): NetlinkRequest {
  const to = header(afOfIp(neighbour.ip), neighbour.index, NUD_PERMANENT, 0)
    .bytes(NDA_DST, ipToBytes(neighbour.ip))
    .bytes(NDA_LLADDR, macToBytes(neighbour.mac))
    .u8(NDA_PROTOCOL, neighbour.protocol)
  return { type: RTM_NEWNEIGH, flags: NLM_F_CREATE | NLM_F_REPLACE, body: to.finish() }
}

export function deleteNeighbour(neighbour: { readonly index: number; readonly ip: Ip }): NetlinkRequest {
  const to = header(afOfIp(neighbour.ip), neighbour.index, 0, 0).bytes(NDA_DST, ipToBytes(neighbour.ip))
  return { type: RTM_DELNEIGH, flags: 0, body: to.finish() }
}

export function setForwardingEntry(entry: ForwardingEntry): NetlinkRequest {
  const to = header(AF_BRIDGE, entry.index, NUD_NOARP | NUD_PERMANENT, NTF_SELF)
    .bytes(NDA_LLADDR, macToBytes(entry.mac))
    .bytes(NDA_DST, ipToBytes(entry.destination))
  return { type: RTM_NEWNEIGH, flags: NLM_F_CREATE | NLM_F_REPLACE, body: to.finish() }
}

/** Every destination of that MAC. */
export function deleteForwardingEntry(entry: { readonly index: number; readonly mac: Mac }): NetlinkRequest {
  const to = header(AF_BRIDGE, entry.index, 0, NTF_SELF).bytes(NDA_LLADDR, macToBytes(entry.mac))
  return { type: RTM_DELNEIGH, flags: 0, body: to.finish() }
}

/** All IP neighbours of all links, IPv4 and IPv6. */
export function dumpNeighbours(): NetlinkRequest {
  return { type: RTM_GETNEIGH, flags: NLM_F_DUMP, body: header(AF_UNSPEC, 0, 0, 0).finish() }
}

/** The forwarding entries of one device (strict checking must be on: else the kernel reads another structure). */
export function dumpForwardingEntries(index: number): NetlinkRequest {
  return { type: RTM_GETNEIGH, flags: NLM_F_DUMP, body: header(AF_BRIDGE, index, 0, 0).finish() }
}

/** struct ndmsg: u8 family, 3 pad, i32 index, u16 state, u8 flags, u8 type. */
function header(af: number, index: number, state: number, flags: number): AttributeWriter {
  return new AttributeWriter(new Writer().u8(af).zeros(3).i32le(index).u16le(state).u8(flags).u8(0))
}

/** Of RTM_NEWNEIGH and RTM_DELNEIGH: an IP neighbour, a device's own forwarding entry, or neither (undefined). */
export function decodeNeighbour(
  message: NetlinkMessage,
): Result<
  | { readonly of: 'neighbour'; readonly value: SeenNeighbour }
  | { readonly of: 'fdb'; readonly value: SeenForwardingEntry }
  | undefined,
  Fault
> {
  return guarded(() => {
    const reader = new Reader(message.body)
    const af = reader.u8()
    reader.skip(3)
    const index = reader.i32le()
    const permanent = (reader.u16le() & NUD_PERMANENT) !== 0
    const flags = reader.u8()
    reader.skip(1)
    const family = familyOfAf(af)
    if (family === undefined && (af !== AF_BRIDGE || (flags & NTF_SELF) === 0)) return undefined
    let ip: Ip | undefined
    let mac: Mac | undefined
    let protocol = 0
    for (const attribute of readAttributes(reader)) {
      if (attribute.type === NDA_DST) ip = family === undefined ? readIp(attribute) : readIpOf(family, attribute)
      else if (attribute.type === NDA_PROTOCOL) protocol = readU8(attribute)
      else if (attribute.type === NDA_LLADDR) {
        const bytes = readBytes(attribute)
        if (bytes.length === 6) mac = macFromBytes(bytes)
      }
    }
    if (family === undefined) {
      return mac === undefined ? undefined : { of: 'fdb', value: { index, mac, destination: ip, permanent } }
    }
    return ip === undefined ? undefined : { of: 'neighbour', value: { index, ip, mac, protocol, permanent } }
  })
}
