/**
 * One key text of the cluster, parsed (key-text.ts). Every pair of nodes uses keys derived from it (pair-key.ts), never
 * these bytes themselves.
 */
export interface IpsecKey extends KeyRef {
  /** As Linux names it, such as `rfc4106(gcm(aes))`, `rfc7539esp(chacha20,poly1305)` or `cbc(aes)`. */
  readonly encryptionAlgorithm: string
  /** Decoded; of an AEAD with its 4 bytes of salt at the end. */
  readonly encryptionKey: Uint8Array
  /** Undefined for an AEAD; else such as `hmac(sha256)`. */
  readonly authenticationAlgorithm: string | undefined
  /** Empty for an AEAD. */
  readonly authenticationKey: Uint8Array
  /** Bytes of the integrity check value on each packet; 0: of an algorithm that only the kernel may know. */
  readonly icvBytes: number
}

/** Names a key without telling anything of it. */
export interface KeyRef {
  /** 1..15: what comes before the algorithm in the secret; the SPI of its ESP packets. */
  readonly id: number
  readonly fingerprint: KeyFingerprint
}

/** 16 lower-case hexadecimal digits: of algorithm and key together (key-text.ts says how it is made). */
export type KeyFingerprint = string & { readonly brand: 'KeyFingerprint' }

/** Cilium's `IPsecMaxKeyVersion`: an id has four bits, and 0 says "no encryption". */
export const MAX_KEY_ID = 15

/** More than two keys at a time are never held: a third waits until the first is let go. */
export const MAX_HELD_KEYS = 2

export function sameKey(a: KeyRef | undefined, b: KeyRef | undefined): boolean {
  return a?.id === b?.id && a?.fingerprint === b?.fingerprint
}

export function hasKey(keys: readonly KeyRef[] | undefined, key: KeyRef): boolean {
  return keys?.some((each) => sameKey(each, key)) ?? false
}
