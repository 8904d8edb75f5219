import { Fault } from '#core/fault/fault.ts'
import { FAMILY_BITS, type Family, familyOf, type Ip, ipFromValue, ipToValue, parseIp } from './address.ts'

declare const brand: unique symbol

/** A prefix as its canonical text `network/length`, host bits zero. Only the functions here make one. */
export type Cidr = string & { readonly [brand]: 'Cidr' }

/** Host bits are cleared: `10.0.1.7/24` gives `10.0.1.0/24`. Undefined when `text` is no prefix; a length is required. */
export function parseCidr(text: string): Cidr | undefined {
  const [address, length, ...more] = text.split('/')
  if (address === undefined || length === undefined || more.length > 0 || !/^(0|[1-9][0-9]{0,2})$/.test(length))
    return undefined
  const ip = parseIp(address)
  if (ip === undefined || Number(length) > FAMILY_BITS[familyOf(ip)]) return undefined
  return cidrOf(ip, Number(length))
}

/** Like {@link parseCidr}, for text that must be right; `field` is named in the error. */
export function requireCidr(text: string, field: string): Cidr {
  const cidr = parseCidr(text)
  if (cidr === undefined) {
    throw new Fault('cidr.invalid', `${field}: "${text}" is no prefix such as 10.0.0.0/8 or fd00::/104`, { field })
  }
  return cidr
}

/** The prefix of that length that holds `ip`. */
export function cidrOf(ip: Ip, length: number): Cidr {
  const family = familyOf(ip)
  const hostBits = BigInt(FAMILY_BITS[family] - length)
  return `${ipFromValue(family, (ipToValue(ip) >> hostBits) << hostBits)}/${length}` as Cidr
}

/** `/32` or `/128`. */
export function hostCidr(ip: Ip): Cidr {
  return cidrOf(ip, FAMILY_BITS[familyOf(ip)])
}

export function cidrFamily(cidr: Cidr): Family {
  return cidr.includes(':') ? 6 : 4
}

export function networkOf(cidr: Cidr): Ip {
  return cidr.slice(0, cidr.lastIndexOf('/')) as Ip
}

export function lengthOf(cidr: Cidr): number {
  return Number(cidr.slice(cidr.lastIndexOf('/') + 1))
}

/** How many addresses, network and broadcast address included. */
export function sizeOf(cidr: Cidr): bigint {
  return 1n << BigInt(FAMILY_BITS[cidrFamily(cidr)] - lengthOf(cidr))
}

/** The address `index` places after the network address. */
export function nthIp(cidr: Cidr, index: bigint): Ip {
  if (index < 0n || index >= sizeOf(cidr)) throw new TypeError(`${cidr} has no address ${index}`)
  return ipFromValue(cidrFamily(cidr), ipToValue(networkOf(cidr)) + index)
}

export function containsIp(cidr: Cidr, ip: Ip): boolean {
  return cidrFamily(cidr) === familyOf(ip) && cidrOf(ip, lengthOf(cidr)) === cidr
}

/** True when every address of `inner` is in `outer`. */
export function containsCidr(outer: Cidr, inner: Cidr): boolean {
  return lengthOf(inner) >= lengthOf(outer) && containsIp(outer, networkOf(inner))
}

export function overlaps(a: Cidr, b: Cidr): boolean {
  return containsCidr(a, b) || containsCidr(b, a)
}
