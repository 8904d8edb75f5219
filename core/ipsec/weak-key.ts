import { AEADS } from './algorithm.ts'
import type { IpsecKey } from './key.ts'

type Material = Pick<
  IpsecKey,
  'encryptionAlgorithm' | 'encryptionKey' | 'authenticationAlgorithm' | 'authenticationKey'
>

const MIN_KEY_BYTES = 16
const MAX_SALT = 4

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
  return judge(key, weakness)
}

/**
 * Why nobody should begin to use this key, beyond {@link weaknessOf}. It is for new texts alone: whoever uses such a key
 * already has to get away from it by a rotation. One random key of 16 bytes in 8 million looks like text.
 */
export function newKeyWeakness(key: Material): string | undefined {
  return weaknessOf(key) ?? judge(key, guess)
}

/** As a new key, with a salt at its end or without one. */
export function isSound(bytes: Uint8Array): boolean {
  const secret = bytes.subarray(0, bytes.length - MAX_SALT)
  return [bytes, ...(secret.length < MIN_KEY_BYTES ? [] : [secret])].every(
    (part) => weakness(part) === undefined && guess(part) === undefined,
  )
}

function judge(key: Material, why: (bytes: Uint8Array) => string | undefined): string | undefined {
  const salt = key.authenticationAlgorithm === undefined ? (AEADS[key.encryptionAlgorithm]?.saltBytes ?? 0) : 0
  const secret = key.encryptionKey.subarray(0, key.encryptionKey.length - salt)
  const encryption = why(secret) ?? (salt === 0 ? undefined : why(key.encryptionKey))
  if (encryption !== undefined) return `the encryption key is weak: ${encryption}`
  const authentication = key.authenticationAlgorithm === undefined ? undefined : why(key.authenticationKey)
  return authentication === undefined ? undefined : `the authentication key is weak: ${authentication}`
}

function guess(bytes: Uint8Array): string | undefined {
  // (95/256)^16 ≈ 2^-23; a passphrase has a fraction of the bits, and of hexadecimal or base64 digits there is half or 3/4
  if (bytes.every((byte) => byte >= 0x20 && byte < 0x7f)) return 'it is text, each byte a printable character'
  const steps = new Map<number, number>()
  for (const [i, byte] of bytes.subarray(1).entries()) {
    const step = (byte - (bytes[i] as number)) & 255
    steps.set(step, (steps.get(step) ?? 0) + 1)
  }
  // 112233…eeff001122: all steps but one are 0x11. Chance of 10 equal steps of 15: 256 · C(15,10) · 256^-10 ≈ 2^-60
  const most = Math.max(...steps.values())
  return most * 3 >= (bytes.length - 1) * 2 ? 'it counts up or down by equal steps, but for a few' : undefined
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
