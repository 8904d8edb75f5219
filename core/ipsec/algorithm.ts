/**
 * What is known of the algorithms that a key text can name, in bytes. A name that is not here is kept as it is: the
 * kernel may know it.
 */
export interface AeadAlgorithm {
  /** With the salt at the end. */
  readonly keyBytes: readonly number[]
  readonly saltBytes: number
  readonly icvBytes: readonly number[]
}

export const AEADS: Readonly<Record<string, AeadAlgorithm>> = {
  // RFC 4106, section 8.1; of its ICVs (section 6) 64 bits are no choice in the key text
  'rfc4106(gcm(aes))': { keyBytes: [20, 28, 36], saltBytes: 4, icvBytes: [12, 16] },
  // RFC 4309, section 7.1
  'rfc4309(ccm(aes))': { keyBytes: [19, 27, 35], saltBytes: 3, icvBytes: [12, 16] },
  // RFC 7634, section 2
  'rfc7539esp(chacha20,poly1305)': { keyBytes: [36], saltBytes: 4, icvBytes: [16] },
}

/** Of an authentication algorithm: any key length of 128 bits or more will do (RFC 2104), the ICV is its own. */
export interface MacAlgorithm {
  readonly icvBytes: number
}

/** No key field can be longer: the keys of a pair are cut from one SHA-512 (pair-key.ts). */
export const MAX_KEY_BYTES = 64

export const MACS: Readonly<Record<string, MacAlgorithm>> = {
  // RFC 2404
  'hmac(sha1)': { icvBytes: 12 },
  // RFC 4868, section 2.3. Linux cuts SHA-256 to 96 bits unless it is told (XFRMA_ALG_AUTH_TRUNC).
  'hmac(sha256)': { icvBytes: 16 },
  'hmac(sha384)': { icvBytes: 24 },
  'hmac(sha512)': { icvBytes: 32 },
}

export const CIPHERS: Readonly<Record<string, readonly number[]>> = {
  // RFC 3602, section 2.2
  'cbc(aes)': [16, 24, 32],
  // RFC 3686, section 5.1: with 4 bytes of nonce
  'rfc3686(ctr(aes))': [20, 28, 36],
}

/** They protect nothing from being read, so they have no place here. */
export const UNENCRYPTED: readonly string[] = ['rfc4543(gcm(aes))', 'cipher_null', 'ecb(cipher_null)']

/** As the keys of {@link AEADS} and the others are written by people. */
export function bits(bytes: readonly number[]): string {
  const list = bytes.map((count) => String(count * 8))
  return list.length < 2 ? list.join('') : `${list.slice(0, -1).join(', ')} or ${list.at(-1)}`
}
