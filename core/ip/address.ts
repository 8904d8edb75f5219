import { Fault } from '#core/fault/fault.ts'

declare const brand: unique symbol

/**
 * An IP address as its canonical text (RFC 5952 for IPv6), so that `===`, Map keys, JSON and logs just work.
 * Only {@link parseIp} and the functions beside it make one.
 */
export type Ip = string & { readonly [brand]: 'Ip' }

export type Family = 4 | 6

export const FAMILIES: readonly Family[] = [4, 6]

export const FAMILY_BITS = { 4: 32, 6: 128 } as const

/** Undefined when `text` is no IPv4 or IPv6 address. A zone (`%eth0`) is refused; a v4-mapped address stays IPv6. */
export function parseIp(text: string): Ip | undefined {
  if (text.includes(':')) {
    const value = parse6(text)
    return value === undefined ? undefined : format6(value)
  }
  return parse4(text) === undefined ? undefined : (text as Ip)
}

/** Like {@link parseIp}, for text that must be right; `field` is named in the error. */
export function requireIp(text: string, field: string): Ip {
  const ip = parseIp(text)
  if (ip === undefined) throw new Fault('ip.invalid', `${field}: "${text}" is no IP address`, { field })
  return ip
}

export function familyOf(ip: Ip): Family {
  return ip.includes(':') ? 6 : 4
}

export function ipToValue(ip: Ip): bigint {
  const value = ip.includes(':') ? parse6(ip) : parse4(ip)
  if (value === undefined) throw new TypeError(`not canonical: ${ip}`)
  return value
}

export function ipFromValue(family: Family, value: bigint): Ip {
  if (value < 0n || value >= 1n << BigInt(FAMILY_BITS[family])) throw new TypeError(`no IPv${family} value: ${value}`)
  if (family === 6) return format6(value)
  const n = Number(value)
  return `${n >>> 24}.${(n >>> 16) & 255}.${(n >>> 8) & 255}.${n & 255}` as Ip
}

/** 4 or 16 bytes in network order. */
export function ipToBytes(ip: Ip): Uint8Array<ArrayBuffer> {
  const family = familyOf(ip)
  if (family === 4) return Uint8Array.from(ip.split('.'), Number)
  const bytes = new Uint8Array(FAMILY_BITS[family] / 8)
  let value = ipToValue(ip)
  for (let i = bytes.length - 1; i >= 0; i--, value >>= 8n) bytes[i] = Number(value & 255n)
  return bytes
}

/** From 4 or 16 bytes in network order. */
export function ipFromBytes(bytes: Uint8Array): Ip {
  if (bytes.length !== 4 && bytes.length !== 16)
    throw new TypeError(`an IP address has 4 or 16 bytes, not ${bytes.length}`)
  if (bytes.length === 4) return bytes.join('.') as Ip
  let value = 0n
  for (const byte of bytes) value = (value << 8n) | BigInt(byte)
  return ipFromValue(6, value)
}

/** IPv4 before IPv6, then by value. */
export function compareIp(a: Ip, b: Ip): number {
  const byFamily = familyOf(a) - familyOf(b)
  if (byFamily !== 0) return byFamily
  const [x, y] = [ipToValue(a), ipToValue(b)]
  return x < y ? -1 : x > y ? 1 : 0
}

function parse4(text: string): bigint | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  let value = 0n
  for (const part of parts) {
    // a leading zero would be octal to some readers: refuse it
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined
    value = (value << 8n) | BigInt(part)
  }
  return value
}

function parse6(text: string): bigint | undefined {
  let head = text
  const groups: number[] = []
  const lastColon = text.lastIndexOf(':')
  const tail: number[] = []
  if (text.includes('.')) {
    const v4 = parse4(text.slice(lastColon + 1))
    if (v4 === undefined) return undefined
    tail.push(Number(v4 >> 16n), Number(v4 & 0xffffn))
    head = text.slice(0, lastColon + 1)
    head = head.endsWith('::') ? head : head.slice(0, -1)
  }
  const halves = head.split('::')
  if (halves.length > 2) return undefined
  const [left, right] = halves.map((half) => (half === '' ? [] : half.split(':')))
  for (const group of [...(left ?? []), ...(right ?? [])]) {
    if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined
  }
  const count = (left?.length ?? 0) + (right?.length ?? 0) + tail.length
  const missing = 8 - count
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined
  groups.push(...(left ?? []).map((g) => Number.parseInt(g, 16)))
  if (halves.length === 2) groups.push(...Array.from({ length: missing }, () => 0))
  groups.push(...(right ?? []).map((g) => Number.parseInt(g, 16)), ...tail)
  return groups.reduce((value, group) => (value << 16n) | BigInt(group), 0n)
}

/** RFC 5952: lower case, the longest run of two or more zero groups (the first of equals) as `::`. */
function format6(value: bigint): Ip {
  const groups = Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(112 - 16 * i)) & 0xffffn))
  let best = { at: -1, length: 1 }
  for (let i = 0; i < 8; i++) {
    let length = 0
    while (i + length < 8 && groups[i + length] === 0) length++
    if (length > best.length) best = { at: i, length }
    if (length > 0) i += length
  }
  if (best.at < 0) return hexGroups(groups) as Ip
  return `${hexGroups(groups.slice(0, best.at))}::${hexGroups(groups.slice(best.at + best.length))}` as Ip
}

function hexGroups(groups: number[]): string {
  return groups.map((group) => group.toString(16)).join(':')
}
