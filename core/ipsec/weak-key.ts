import { AEADS } from './algorithm.ts'
import type { IpsecKey } from './key.ts'

type Material = Pick<
  IpsecKey,
  'encryptionAlgorithm' | 'encryptionKey' | 'authenticationAlgorithm' | 'authenticationKey'
>

const MIN_KEY_BYTES = 16

/**
 * Why nobody should use these bytes as a key, such as `all its bytes are equal`; undefined when they look random. A random
 * key of 16 bytes is refused with a probability below 2^-56.
 */
function weakness(bytes: Uint8Array): string | undefined {
  if (bytes.length < MIN_KEY_BYTES) return `it has ${bytes.length * 8} bits, fewer than 128`
  const step = stepOf(bytes)
  if (step === 0) return 'all its bytes are equal'
  if (step !== undefined) return 'it counts up or down by equal steps'
  for (let period = 2; period * 2 <= bytes.length; period++) {
    if (bytes.every((byte, i) => i < period || byte === bytes[i - period])) return `it repeats ${period} bytes`
  }
  // chance of at most 5 values in 16 random bytes: C(256,5) · (5/256)^16 ≈ 2^-57
  const values = new Set(bytes).size
  return values <= 5 ? `it has only ${values} different bytes` : undefined
}

/** The same for a whole key text; of an AEAD also without the salt, which is no secret by itself. */
export function weaknessOf(key: Material): string | undefined {
  const salt = key.authenticationAlgorithm === undefined ? (AEADS[key.encryptionAlgorithm]?.saltBytes ?? 0) : 0
  const secret = key.encryptionKey.subarray(0, key.encryptionKey.length - salt)
  const encryption = weakness(secret) ?? (salt === 0 ? undefined : weakness(key.encryptionKey))
  if (encryption !== undefined) return `the encryption key is weak: ${encryption}`
  const authentication = key.authenticationAlgorithm === undefined ? undefined : weakness(key.authenticationKey)
  return authentication === undefined ? undefined : `the authentication key is weak: ${authentication}`
}

/** Keys printed in guides that many follow: taken, so that the guides hold word for word, and warned of. */
const PRINTED: readonly string[] = ['da630c6acdbef2757ab7f5215b8b1811420e3f61']

/** What is allowed and yet unwise, a sentence each with what to do; empty for a good key. */
export function keyWarnings(key: Material): readonly string[] {
  const warnings: string[] = []
  const keys = [key.encryptionKey, key.authenticationKey].map((bytes) => bytes.toHex())
  if (keys.some((hex) => PRINTED.includes(hex))) {
    warnings.push('The key is printed in a public guide, so everybody has it. Rotate to a random one.')
  }
  if (key.authenticationAlgorithm !== undefined && keys[0] === keys[1]) {
    warnings.push('Encryption and authentication use the same key. Rotate to two random ones.')
  }
  return warnings
}

/** From each byte to the next, modulo 256; undefined when it is not always the same. */
function stepOf(bytes: Uint8Array): number | undefined {
  const steps = new Set(bytes.subarray(1).map((byte, i) => (byte - (bytes[i] as number)) & 255))
  return steps.size === 1 ? [...steps][0] : undefined
}
