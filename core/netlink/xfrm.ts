import type { Reader } from '#core/bytes/reader.ts'
import type { Writer } from '#core/bytes/writer.ts'
import { FAMILY_BITS, type Family, familyOf, type Ip, ipFromBytes, ipToBytes } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, cidrOf, lengthOf, networkOf } from '#core/ip/cidr.ts'
import { type Attribute, type AttributeWriter, malformed, readBytesOf } from './attribute.ts'
import { AF_UNSPEC, afOf, checkPrefixLength, familyOfAf } from './rtnetlink.ts'

/** What states and policies share (include/uapi/linux/xfrm.h of Linux 6.18, x86-64). */
export const XFRM_MSG_NEWSA = 0x10
export const XFRM_MSG_DELSA = 0x11
export const XFRM_MSG_GETSA = 0x12
export const XFRM_MSG_NEWPOLICY = 0x13
export const XFRM_MSG_DELPOLICY = 0x14
export const XFRM_MSG_GETPOLICY = 0x15
export const XFRM_MSG_ACQUIRE = 0x17
export const XFRM_MSG_EXPIRE = 0x18
export const XFRM_MSG_UPDPOLICY = 0x19
export const XFRM_MSG_UPDSA = 0x1a
export const XFRM_MSG_FLUSHSA = 0x1c
export const XFRM_MSG_FLUSHPOLICY = 0x1d
export const XFRM_MSG_NEWSADINFO = 0x22
export const XFRM_MSG_GETSADINFO = 0x23

export const XFRMA_ALG_AUTH = 1
export const XFRMA_ALG_CRYPT = 2
export const XFRMA_ENCAP = 4
export const XFRMA_TMPL = 5
export const XFRMA_SA = 6
export const XFRMA_POLICY = 7
export const XFRMA_REPLAY_VAL = 10
export const XFRMA_SRCADDR = 13
export const XFRMA_ALG_AEAD = 18
export const XFRMA_ALG_AUTH_TRUNC = 20
export const XFRMA_MARK = 21
export const XFRMA_REPLAY_ESN_VAL = 23
export const XFRMA_SA_EXTRA_FLAGS = 24
export const XFRMA_OFFLOAD_DEV = 28
export const XFRMA_SET_MARK = 29
export const XFRMA_SET_MARK_MASK = 30
export const XFRMA_IF_ID = 31
export const XFRMA_SA_DIR = 33

/** Multicast groups as the bits of sockaddr_nl.nl_groups. */
export const XFRM_GROUPS = { acquire: 1 << 0, expire: 1 << 1, state: 1 << 2, policy: 1 << 3 } as const

export const IPPROTO_ESP = 50

/** A packet's mark matches when `mark & mask === value`; a mark to be set replaces the bits of `mask`. */
export interface XfrmMark {
  readonly value: number
  readonly mask: number
}

const MODES = ['transport', 'tunnel', 'routeoptimization', 'in_trigger', 'beet'] as const
export type XfrmMode = (typeof MODES)[number]

export function modeNumber(mode: XfrmMode): number {
  return MODES.indexOf(mode)
}
export function modeOf(number: number, offset: number): XfrmMode {
  const mode = MODES[number]
  if (mode === undefined) throw malformed(`XFRM mode ${number}`, offset)
  return mode
}

/** xfrm_address_t: 16 bytes, an IPv4 address in the first four. */
export const XFRM_ADDRESS_BYTES = 16
export function putAddress(writer: Writer, ip: Ip): void {
  const bytes = ipToBytes(ip)
  writer.put(bytes).zeros(XFRM_ADDRESS_BYTES - bytes.length)
}
export function addressOf(family: Family, bytes: Uint8Array): Ip {
  return ipFromBytes(bytes.subarray(0, FAMILY_BITS[family] / 8))
}

/** Which packets (inner ones, of a tunnel). Ports and protocol: 0 is any. */
export interface XfrmSelector {
  readonly source: Cidr
  readonly destination: Cidr
  readonly protocol?: number
  readonly sourcePort?: number
  readonly destinationPort?: number
  /** Only of that device. */
  readonly index?: number
}

const SELECTOR_BYTES = 56

/** struct xfrm_selector; without one: zeros, which the kernel takes as "all of the state's own family". */
export function putSelector(writer: Writer, selector: XfrmSelector | undefined): void {
  if (selector === undefined) {
    writer.zeros(SELECTOR_BYTES)
    return
  }
  const { source, destination, protocol = 0, sourcePort = 0, destinationPort = 0, index = 0 } = selector
  const family = cidrFamily(source)
  if (cidrFamily(destination) !== family) throw new TypeError(`${source} and ${destination} are of two families`)
  putAddress(writer, networkOf(destination))
  putAddress(writer, networkOf(source))
  // a port and its mask
  writer.u16be(destinationPort).u16be(destinationPort === 0 ? 0 : 0xffff)
  writer.u16be(sourcePort).u16be(sourcePort === 0 ? 0 : 0xffff)
  writer.u16le(afOf(family)).u8(lengthOf(destination)).u8(lengthOf(source)).u8(protocol).zeros(3)
  writer.i32le(index).zeros(4)
}

/** Undefined when its family is none ("any") or not IP. */
export function readSelector(reader: Reader): XfrmSelector | undefined {
  const at = reader.offset
  const [destination, source] = [reader.take(XFRM_ADDRESS_BYTES), reader.take(XFRM_ADDRESS_BYTES)]
  const destinationPort = reader.u16be()
  const destinationPortMask = reader.u16be()
  const sourcePort = reader.u16be()
  const sourcePortMask = reader.u16be()
  const af = reader.u16le()
  const [destinationLength, sourceLength, protocol] = [reader.u8(), reader.u8(), reader.u8()]
  reader.skip(3)
  const index = reader.i32le()
  reader.skip(4)
  const family = familyOfAf(af)
  if (af === AF_UNSPEC || family === undefined) return undefined
  checkPrefixLength(family, destinationLength, at)
  checkPrefixLength(family, sourceLength, at)
  return {
    source: cidrOf(addressOf(family, source), sourceLength),
    destination: cidrOf(addressOf(family, destination), destinationLength),
    ...(protocol === 0 ? {} : { protocol }),
    ...(sourcePortMask === 0 ? {} : { sourcePort }),
    ...(destinationPortMask === 0 ? {} : { destinationPort }),
    ...(index === 0 ? {} : { index }),
  }
}

/** Whether the selector matches every packet of that family. */
export function matchesAll(selector: XfrmSelector, family: Family): boolean {
  const { source, destination, ...more } = selector
  if (cidrFamily(source) !== family || lengthOf(source) !== 0 || lengthOf(destination) !== 0) return false
  return Object.keys(more).length === 0
}

/** What ends an object by itself. Absent: nothing does. Counted in bytes and packets, times in seconds. */
export interface XfrmLimits {
  readonly softBytes?: bigint
  readonly hardBytes?: bigint
  readonly softPackets?: bigint
  readonly hardPackets?: bigint
  readonly softAddSeconds?: bigint
  readonly hardAddSeconds?: bigint
  readonly softUseSeconds?: bigint
  readonly hardUseSeconds?: bigint
}

const INFINITE = (1n << 64n) - 1n
/** In the order of struct xfrm_lifetime_cfg; counts end at "infinite", times at 0. */
const LIMITS: readonly (readonly [name: keyof XfrmLimits, never: bigint])[] = [
  ['softBytes', INFINITE],
  ['hardBytes', INFINITE],
  ['softPackets', INFINITE],
  ['hardPackets', INFINITE],
  ['softAddSeconds', 0n],
  ['hardAddSeconds', 0n],
  ['softUseSeconds', 0n],
  ['hardUseSeconds', 0n],
]

export function putLimits(writer: Writer, limits: XfrmLimits = {}): void {
  for (const [name, never] of LIMITS) writer.u64le(limits[name] ?? never)
}

export function readLimits(reader: Reader): XfrmLimits {
  const limits: { -readonly [K in keyof XfrmLimits]: XfrmLimits[K] } = {}
  for (const [name, never] of LIMITS) {
    const value = reader.u64le()
    if (value !== never) limits[name] = value
  }
  return limits
}

/** struct xfrm_lifetime_cur. */
export interface XfrmUse {
  readonly bytes: bigint
  readonly packets: bigint
  /** Seconds since the epoch. */
  readonly added: number
  /** Seconds since the epoch; 0: not used yet. */
  readonly firstUsed: number
}

export const USE_BYTES = 32
export function readUse(reader: Reader): XfrmUse {
  return {
    bytes: reader.u64le(),
    packets: reader.u64le(),
    added: Number(reader.u64le()),
    firstUsed: Number(reader.u64le()),
  }
}

export function putMark(to: AttributeWriter, { value, mask }: XfrmMark): void {
  const bytes = new Uint8Array(8)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, value, true)
  view.setUint32(4, mask, true)
  to.bytes(XFRMA_MARK, bytes)
}

export function readMark(attribute: Attribute): XfrmMark {
  const bytes = readBytesOf(attribute, 8)
  const view = new DataView(bytes.buffer, bytes.byteOffset, 8)
  return { value: view.getUint32(0, true), mask: view.getUint32(4, true) }
}

/** The family of both; a tunnel's ends are of one. */
export function familyOfBoth(source: Ip, destination: Ip): Family {
  const family = familyOf(destination)
  if (familyOf(source) !== family) throw new TypeError(`${source} and ${destination} are of two families`)
  return family
}
