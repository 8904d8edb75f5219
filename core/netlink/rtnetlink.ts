import { FAMILY_BITS, type Family, familyOf, type Ip, ipFromBytes } from '#core/ip/address.ts'
import { type Attribute, malformed, readBytes } from './attribute.ts'

/** Numbers that several rtnetlink objects share (include/uapi/linux/rtnetlink.h). */
export const RTM_NEWLINK = 16
export const RTM_DELLINK = 17
export const RTM_GETLINK = 18
export const RTM_SETLINK = 19
export const RTM_NEWADDR = 20
export const RTM_DELADDR = 21
export const RTM_GETADDR = 22
export const RTM_NEWROUTE = 24
export const RTM_DELROUTE = 25
export const RTM_GETROUTE = 26
export const RTM_NEWNEIGH = 28
export const RTM_DELNEIGH = 29
export const RTM_GETNEIGH = 30
export const RTM_NEWRULE = 32
export const RTM_DELRULE = 33
export const RTM_GETRULE = 34

export const AF_UNSPEC = 0
export const AF_INET = 2
export const AF_BRIDGE = 7
export const AF_INET6 = 10

export const RT_TABLE_MAIN = 254

/** Multicast groups as the bits of sockaddr_nl.nl_groups. */
export const GROUPS = {
  link: 1 << 0,
  neighbour: 1 << 2,
  address4: 1 << 4,
  route4: 1 << 6,
  rule4: 1 << 7,
  address6: 1 << 8,
  route6: 1 << 10,
  rule6: 1 << 18,
} as const

export function afOf(family: Family): number {
  return family === 4 ? AF_INET : AF_INET6
}

export function afOfIp(ip: Ip): number {
  return afOf(familyOf(ip))
}

/** Undefined for a family that is not IP. */
export function familyOfAf(af: number): Family | undefined {
  return af === AF_INET ? 4 : af === AF_INET6 ? 6 : undefined
}

export function readIp(attribute: Attribute): Ip {
  const bytes = readBytes(attribute)
  if (bytes.length !== 4 && bytes.length !== 16) {
    throw malformed(`attribute ${attribute.type} has ${bytes.length} bytes, no IP address`, attribute.offset)
  }
  return ipFromBytes(bytes)
}

/** Of a family that must be the message's own. */
export function readIpOf(family: Family, attribute: Attribute): Ip {
  const ip = readIp(attribute)
  if (familyOf(ip) !== family) {
    throw malformed(`attribute ${attribute.type} is no IPv${family} address`, attribute.offset)
  }
  return ip
}

export function checkPrefixLength(family: Family, length: number, offset: number): void {
  if (length > FAMILY_BITS[family]) throw malformed(`IPv${family} prefix length ${length}`, offset)
}
