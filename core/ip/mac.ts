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
 * device made again keeps its address: locally administered, then the last five bytes of the IP (of an IPv4 address
 * after the family, of an IPv6 address its end).
 */
export function macOfIp(ip: Ip): Mac {
  const bytes = ipToBytes(ip)
  const tail = bytes.length === 4 ? [4, ...bytes] : [...bytes.subarray(11)]
  return macFromBytes(Uint8Array.from([0x0e, ...tail]))
}
