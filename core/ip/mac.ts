import { type Ip, ipToBytes } from './address.ts'

declare const brand: unique symbol

/** An Ethernet address as lower-case text, `aa:bb:cc:dd:ee:ff`. */
export type Mac = string & { readonly [brand]: 'Mac' }

export function parseMac(text: string): Mac | undefined {
  return /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text) ? (text.toLowerCase() as Mac) : undefined
}

export function macToBytes(mac: Mac): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(mac.split(':'), (byte) => Number.parseInt(byte, 16))
}

export function macFromBytes(bytes: Uint8Array): Mac {
  if (bytes.length !== 6) throw new TypeError(`an Ethernet address has 6 bytes, not ${bytes.length}`)
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':') as Mac
}

/**
 * The address that every node computes for the device that owns `ip`, so that neighbour entries need no exchange and a
 * device made again keeps its address. Locally administered; then, of an IPv4 address, 4 and its bytes; of an IPv6
 * address 40 bits of FNV-1a over all of it, since nodes' addresses often differ in the middle only (`fd00:1:N::1`).
 */
export function macOfIp(ip: Ip): Mac {
  const bytes = ipToBytes(ip)
  if (bytes.length === 4) return macFromBytes(Uint8Array.from([0x0e, 4, ...bytes]))
  let hash = 0xcbf29ce484222325n
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n)
  hash ^= hash >> 40n
  return macFromBytes(
    Uint8Array.from([0x0e, ...[32n, 24n, 16n, 8n, 0n].map((shift) => Number((hash >> shift) & 255n))]),
  )
}
