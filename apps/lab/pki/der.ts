/** The few ASN.1 types of a certificate in DER (ITU-T X.690). */

export function tlv(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const content = Buffer.concat(parts)
  return Buffer.concat([Uint8Array.of(tag), lengthOf(content.length), content])
}

function lengthOf(length: number): Uint8Array {
  if (length < 0x80) return Uint8Array.of(length)
  const bytes: number[] = []
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256)
  return Uint8Array.of(0x80 | bytes.length, ...bytes)
}

export function sequence(...parts: readonly Uint8Array[]): Uint8Array {
  return tlv(0x30, ...parts)
}

export function set(...parts: readonly Uint8Array[]): Uint8Array {
  return tlv(0x31, ...parts)
}

/** A non-negative integer from its big-endian bytes. */
export function integer(bytes: Uint8Array): Uint8Array {
  let start = 0
  while (start < bytes.length - 1 && bytes[start] === 0) start++
  const value = bytes.subarray(start)
  return (value[0] ?? 0) >= 0x80 ? tlv(0x02, Uint8Array.of(0), value) : tlv(0x02, value)
}

export function boolean(value: boolean): Uint8Array {
  return tlv(0x01, Uint8Array.of(value ? 0xff : 0))
}

export function oid(dotted: string): Uint8Array {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number)
  const bytes = [first * 40 + second]
  for (const arc of rest) {
    const septets = [arc & 0x7f]
    for (let high = Math.floor(arc / 128); high > 0; high = Math.floor(high / 128))
      septets.unshift((high & 0x7f) | 0x80)
    bytes.push(...septets)
  }
  return tlv(0x06, Uint8Array.from(bytes))
}

export function utf8(text: string): Uint8Array {
  return tlv(0x0c, new TextEncoder().encode(text))
}

export function octets(bytes: Uint8Array): Uint8Array {
  return tlv(0x04, bytes)
}

/** Whole bytes, or `unused` low bits of the last one not counted. */
export function bits(bytes: Uint8Array, unused = 0): Uint8Array {
  return tlv(0x03, Uint8Array.of(unused), bytes)
}

/** UTCTime up to 2049, GeneralizedTime after it (RFC 5280 4.1.2.5); to the second. */
export function time(milliseconds: number): Uint8Array {
  const text = new Date(milliseconds)
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replace(/[-:T]/g, '')
  const year = Number(text.slice(0, 4))
  const ascii = new TextEncoder().encode(year < 2050 ? text.slice(2) : text)
  return tlv(year < 2050 ? 0x17 : 0x18, ascii)
}

/** [number] EXPLICIT, or IMPLICIT for a constructed value. */
export function context(number: number, ...parts: readonly Uint8Array[]): Uint8Array {
  return tlv(0xa0 | number, ...parts)
}
