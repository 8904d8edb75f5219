/**
 * The primitives that Noise and WireGuard need, as a port: `io/crypto` implements it on node:crypto and noble, so the
 * protocol itself stays pure and one implementation can be tested against another.
 */
export interface NoiseCrypto {
  /** X25519. `privateKey` has 32 bytes; the caller may overwrite them afterwards. */
  importKey(privateKey: Uint8Array): DhKey
  /** BLAKE2s-256 of the parts, one after the other. */
  hash(...parts: readonly Uint8Array[]): Uint8Array
  /** HKDF of the specification (4.3), with HMAC-BLAKE2s: `count` outputs of 32 bytes. */
  derive(chainingKey: Uint8Array, input: Uint8Array, count: 2 | 3): Uint8Array[]
  /** ChaCha20-Poly1305 with WireGuard's nonce: 4 zero bytes, then the counter little endian. Appends the 16-byte tag. */
  seal(key: Uint8Array, counter: bigint, plaintext: Uint8Array, additional: Uint8Array): Uint8Array
  /** Undefined when it does not authenticate. */
  open(key: Uint8Array, counter: bigint, ciphertext: Uint8Array, additional: Uint8Array): Uint8Array | undefined
}

/** What WireGuard's MACs and cookies need besides. */
export interface CookieCrypto {
  hash(...parts: readonly Uint8Array[]): Uint8Array
  /** Keyed BLAKE2s-128 (not HMAC); the key has 16 or 32 bytes. */
  mac(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array
  /** XChaCha20-Poly1305, nonce of 24 bytes. */
  sealExtended(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, additional: Uint8Array): Uint8Array
  openExtended(
    key: Uint8Array,
    nonce: Uint8Array,
    ciphertext: Uint8Array,
    additional: Uint8Array,
  ): Uint8Array | undefined
}

export type WireguardCrypto = NoiseCrypto & CookieCrypto

/** A private key that is held by the crypto library. */
export interface DhKey {
  readonly publicKey: Uint8Array
  /** Undefined when the result is all zero, i.e. `remote` is a point of low order (RFC 7748, section 6.1). */
  exchange(remote: Uint8Array): Uint8Array | undefined
}

export const HASH_BYTES = 32
export const DH_BYTES = 32
export const TAG_BYTES = 16
