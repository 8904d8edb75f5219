import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import type { Fault } from '#core/fault/fault.ts'
import type { Result } from '#core/fault/result.ts'
import { familyOf, type Ip, ipToBytes } from '#core/ip/address.ts'
import { AttributeWriter, malformed, readAttributes, readU32 } from './attribute.ts'
import { guarded, type NetlinkMessage, type NetlinkRequest, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from './message.ts'
import {
  AF_UNSPEC,
  afOfIp,
  checkPrefixLength,
  familyOfAf,
  RTM_DELADDR,
  RTM_GETADDR,
  RTM_NEWADDR,
  readIpOf,
} from './rtnetlink.ts'

/** include/uapi/linux/if_addr.h */
const IFA_ADDRESS = 1
const IFA_LOCAL = 2
const IFA_FLAGS = 8
const IFA_F_NODAD = 0x02
const IFA_F_PERMANENT = 0x80

/** `global` is reachable from anywhere, `link` from the link, `host` only here (RT_SCOPE_*). */
type Scope = 'global' | 'link' | 'host' | 'other'
const SCOPES: Readonly<Record<number, Scope>> = { 0: 'global', 253: 'link', 254: 'host' }

export interface Address {
  readonly index: number
  readonly ip: Ip
  readonly length: number
  readonly scope: Scope
  readonly permanent: boolean
}

export interface NewAddress {
  readonly index: number
  readonly ip: Ip
  readonly length: number
}

/**
 * Never with duplicate address detection: an IPv6 address that is "tentative" loses the first packets, and the question
 * itself would be traffic of ours (ADR 0004).
 */
export function newAddress(address: NewAddress): NetlinkRequest {
  const flags = familyOf(address.ip) === 6 ? IFA_F_NODAD : 0
  return { type: RTM_NEWADDR, flags: NLM_F_CREATE | NLM_F_EXCL, body: begin(address, flags).finish() }
}

export function deleteAddress(address: NewAddress): NetlinkRequest {
  return { type: RTM_DELADDR, flags: 0, body: begin(address).finish() }
}

/** Of one link, or of all. */
export function dumpAddresses(index = 0): NetlinkRequest {
  const body = new Writer().u8(AF_UNSPEC).zeros(3).u32le(index).finish()
  return { type: RTM_GETADDR, flags: NLM_F_DUMP, body }
}

/** struct ifaddrmsg: u8 family, u8 prefix length, u8 flags, u8 scope, u32 index. */
function begin({ index, ip, length }: NewAddress, flags = 0): AttributeWriter {
  const writer = new Writer().u8(afOfIp(ip)).u8(length).u8(flags).u8(0).u32le(index)
  const bytes = ipToBytes(ip)
  return new AttributeWriter(writer).bytes(IFA_LOCAL, bytes).bytes(IFA_ADDRESS, bytes)
}

/** Of RTM_NEWADDR and RTM_DELADDR; undefined for a family that is not IP. */
export function decodeAddress(message: NetlinkMessage): Result<Address | undefined, Fault> {
  return guarded(() => {
    const reader = new Reader(message.body)
    const family = familyOfAf(reader.u8())
    const length = reader.u8()
    let flags = reader.u8()
    const scope = SCOPES[reader.u8()] ?? 'other'
    const index = reader.u32le()
    if (family === undefined) return undefined
    checkPrefixLength(family, length, 1)
    // on a point-to-point link IFA_ADDRESS is the peer's, IFA_LOCAL ours; IPv6 has mostly only the former
    let address: Ip | undefined
    let local: Ip | undefined
    for (const attribute of readAttributes(reader)) {
      if (attribute.type === IFA_ADDRESS) address = readIpOf(family, attribute)
      else if (attribute.type === IFA_LOCAL) local = readIpOf(family, attribute)
      else if (attribute.type === IFA_FLAGS) flags = readU32(attribute)
    }
    const ip = local ?? address
    if (ip === undefined) throw malformed('an address without an address', 0)
    return { index, ip, length, scope, permanent: (flags & IFA_F_PERMANENT) !== 0 }
  })
}
