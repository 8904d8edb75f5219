/** The two hash functions of this folder, as a port: `io/crypto/ipsec-crypto.ts` has them from node:crypto. */
export interface IpsecHash {
  /** SHA-256 of the parts, one after the other: 32 bytes. */
  sha256(...parts: readonly Uint8Array[]): Uint8Array
  /** SHA-512: 64 bytes. */
  sha512(...parts: readonly Uint8Array[]): Uint8Array
}
