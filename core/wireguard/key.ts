import { fromBase64, toBase64 } from '#core/bytes/text.ts'

declare const brand: unique symbol

/** A Curve25519 public key as 44 characters of base64, the way `wg` and the CiliumNode annotation show it. */
export type PublicKey = string & { readonly [brand]: 'PublicKey' }

export const KEY_BYTES = 32

const ALL_ZERO = toBase64(new Uint8Array(KEY_BYTES))

/** Undefined unless `text` is the base64 of 32 bytes that are not all zero. */
export function parsePublicKey(text: string): PublicKey | undefined {
  return fromBase64(text)?.length === KEY_BYTES && text !== ALL_ZERO ? (text as PublicKey) : undefined
}

export function publicKeyOf(bytes: Uint8Array): PublicKey {
  if (bytes.length !== KEY_BYTES) throw new TypeError(`a key has ${KEY_BYTES} bytes, not ${bytes.length}`)
  return toBase64(bytes) as PublicKey
}

export function publicKeyBytes(key: PublicKey): Uint8Array<ArrayBuffer> {
  return fromBase64(key) as Uint8Array<ArrayBuffer>
}
