import { fromBase64, toBase64, toHex } from '#core/bytes/text.ts'

declare const brand: unique symbol

/** A Curve25519 public key as 44 characters of base64, the way `wg` and the CiliumNode annotation show it. */
export type PublicKey = string & { readonly [brand]: 'PublicKey' }

export const KEY_BYTES = 32

/**
 * The points of small order, little endian without bit 255, which X25519 ignores (RFC 7748, sections 5 and 6.1): with one of
 * them every shared secret is zero, and implementations refuse the key. 0, 1, p-1, p, p+1 and the two of order 8.
 */
const SMALL_ORDER = new Set([
  '00'.repeat(32),
  `01${'00'.repeat(31)}`,
  `ec${'ff'.repeat(30)}7f`,
  `ed${'ff'.repeat(30)}7f`,
  `ee${'ff'.repeat(30)}7f`,
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
])

/** Undefined unless `text` is the base64 of 32 bytes that a secret can be agreed with. */
export function parsePublicKey(text: string): PublicKey | undefined {
  const bytes = fromBase64(text)
  return bytes?.length === KEY_BYTES && !isSmallOrder(bytes) ? (text as PublicKey) : undefined
}

/** Whether no secret can be agreed with that public key. */
function isSmallOrder(key: Uint8Array): boolean {
  const masked = Uint8Array.from(key)
  masked[KEY_BYTES - 1] = (masked[KEY_BYTES - 1] ?? 0) & 0x7f
  return SMALL_ORDER.has(toHex(masked))
}

export function publicKeyOf(bytes: Uint8Array): PublicKey {
  if (bytes.length !== KEY_BYTES) throw new TypeError(`a key has ${KEY_BYTES} bytes, not ${bytes.length}`)
  return toBase64(bytes) as PublicKey
}

export function publicKeyBytes(key: PublicKey): Uint8Array<ArrayBuffer> {
  return fromBase64(key) as Uint8Array<ArrayBuffer>
}
