import { type EngineKeys, type EspAlgorithm, encodeKeys } from '#core/engine/association.ts'
import type { Fault } from '#core/fault/fault.ts'
import { ok, type Result } from '#core/fault/result.ts'
import type { IpsecHash } from './hash.ts'
import type { IpsecKey } from './key.ts'
import { derivePairKeys, type PairEnd } from './pair-key.ts'

/** What the userspace datapath has, as people write it. */
const USERSPACE_ALGORITHMS = [
  'rfc4106(gcm(aes)) with an ICV of 96 or 128 bits',
  'rfc7539esp(chacha20,poly1305) with an ICV of 128 bits',
  'hmac(sha256), hmac(sha384) or hmac(sha512) with cbc(aes)',
] as const

/** What decides about an algorithm: of an {@link IpsecKey}. */
export type AlgorithmNames = Pick<IpsecKey, 'encryptionAlgorithm' | 'authenticationAlgorithm' | 'icvBytes'>

/** By Linux's names: `AEAD`, or `auth,cipher` of two. The same text as {@link linuxAlgorithm} gives. */
const ALGORITHMS: Readonly<Record<string, EspAlgorithm>> = {
  'rfc4106(gcm(aes))': 'aes-gcm',
  'rfc7539esp(chacha20,poly1305)': 'chacha20-poly1305',
  'hmac(sha256),cbc(aes)': 'aes-cbc-hmac-sha256',
  'hmac(sha384),cbc(aes)': 'aes-cbc-hmac-sha384',
  'hmac(sha512),cbc(aes)': 'aes-cbc-hmac-sha512',
}

const ICV_BYTES: Readonly<Record<EspAlgorithm, readonly number[]>> = {
  'aes-gcm': [12, 16],
  'chacha20-poly1305': [16],
  'aes-cbc-hmac-sha256': [16],
  'aes-cbc-hmac-sha384': [24],
  'aes-cbc-hmac-sha512': [32],
}

export type Support =
  | { readonly supported: true; readonly algorithm: EspAlgorithm }
  | { readonly supported: false; readonly missing: string; readonly remedy: string }

/** Whether the userspace datapath has the algorithm of `key`, and what it has when it does not. */
export function supportedInUserspace(key: AlgorithmNames): Support {
  const name = algorithmName(key)
  const algorithm = ALGORITHMS[name]
  if (algorithm !== undefined && ICV_BYTES[algorithm].includes(key.icvBytes)) return { supported: true, algorithm }
  return {
    supported: false,
    missing: `the userspace datapath has no ${name} with an ICV of ${key.icvBytes * 8} bits`,
    remedy: `Rotate to one of: ${USERSPACE_ALGORITHMS.join('; ')}.`,
  }
}

/** `rfc4106(gcm(aes))`, or `hmac(sha256),cbc(aes)`. */
export function algorithmName({
  authenticationAlgorithm,
  encryptionAlgorithm,
}: Omit<AlgorithmNames, 'icvBytes'>): string {
  return authenticationAlgorithm === undefined
    ? encryptionAlgorithm
    : `${authenticationAlgorithm},${encryptionAlgorithm}`
}

/** As Linux names what the engine has. */
export function linuxAlgorithm(algorithm: EspAlgorithm): string {
  return Object.keys(ALGORITHMS).find((name) => ALGORITHMS[name] === algorithm) as string
}

/**
 * What SET_SENDING and SET_RECEIVING take: {@link derivePairKeys} in the engine's shape. The caller overwrites the bytes.
 * `key` must be {@link supportedInUserspace}.
 */
export function deriveEngineKeys(
  key: IpsecKey,
  source: PairEnd,
  destination: PairEnd,
  hash: IpsecHash,
): Result<EngineKeys, Fault> {
  const support = supportedInUserspace(key)
  if (!support.supported) throw new TypeError(support.missing)
  const pair = derivePairKeys(key, source, destination, hash)
  if (!pair.ok) return pair
  const { encryptionKey: encryption, authenticationKey: authentication } = pair.value
  return ok({ algorithm: support.algorithm, icv: key.icvBytes, encryption, authentication })
}

/** By which the engine names derived keys: the first 8 bytes of SHA-256 over their encoding, in hex. */
export function engineFingerprint(keys: EngineKeys, hash: IpsecHash): string {
  const encoded = encodeKeys(keys)
  const fingerprint = hash.sha256(encoded).subarray(0, 8).toHex()
  encoded.fill(0)
  return fingerprint
}
