import type { Fault } from '#core/fault/fault.ts'
import { ok, type Result } from '#core/fault/result.ts'
import type { Entropy } from '#core/wireguard/clock.ts'
import type { IpsecHash } from './hash.ts'
import { type IpsecKey, MAX_KEY_ID } from './key.ts'
import { hasPlus, parseKeyTexts } from './key-text.ts'
import { isSound } from './weak-key.ts'

/** What `cilium encryption create-key --auth-algo` offers (cilium-cli `encrypt/create_key.go`, 2025). */
export const NEW_KEY_ALGORITHMS = ['rfc4106-gcm-aes', 'cbc-aes-sha256', 'cbc-aes-sha512'] as const
export type NewKeyAlgorithm = (typeof NEW_KEY_ALGORITHMS)[number]

/** The one line of `key`, as it goes into the Secret. Secret. */
export function formatKeyText(key: Omit<IpsecKey, 'fingerprint'>, plus: boolean): string {
  const start = `${key.id}${plus ? '+' : ''}`
  const encryption = `${key.encryptionAlgorithm} ${key.encryptionKey.toHex()}`
  if (key.authenticationAlgorithm === undefined) return `${start} ${encryption} ${key.icvBytes * 8}`
  return `${start} ${key.authenticationAlgorithm} ${key.authenticationKey.toHex()} ${encryption}`
}

/** The first key of a cluster, or one of another algorithm. Lengths are those of cilium-cli. Secret. */
export function newKeyText(algorithm: NewKeyAlgorithm, entropy: Entropy, id = 1, plus = false): string {
  const random = sound(entropy)
  if (algorithm === 'rfc4106-gcm-aes') return `${id}${plus ? '+' : ''} rfc4106(gcm(aes)) ${random(20).toHex()} 128`
  const [hmac, bytes] =
    algorithm === 'cbc-aes-sha256' ? (['hmac(sha256)', 16] as const) : (['hmac(sha512)', 32] as const)
  return `${id}${plus ? '+' : ''} ${hmac} ${random(bytes).toHex()} cbc(aes) ${random(16).toHex()}`
}

/** Bytes that weak-key.ts does not take for text, as it does once in millions. Of bad entropy there is no better. */
function sound(random: Entropy): Entropy {
  return (count) => {
    let bytes = random(count)
    for (let tries = 0; tries < 8 && !isSound(bytes); tries++) bytes = random(count)
    return bytes
  }
}

/** 15 is followed by 1; ids in `taken` (of other keys that are held, at most a few) are left out. */
export function nextKeyId(id: number, taken: readonly number[] = []): number {
  const ids = Array.from({ length: MAX_KEY_ID }, (_, step) => ((id + step) % MAX_KEY_ID) + 1)
  return ids.find((each) => !taken.includes(each)) ?? (ids[0] as number)
}

/**
 * The text that follows `current` (of which the last line counts) in a rotation: next id, new keys, everything else alike.
 * Secret.
 */
export function nextKeyText(
  current: string,
  random: Entropy,
  hash: IpsecHash,
  taken: readonly number[] = [],
): Result<string, Fault> {
  const parsed = parseKeyTexts(current, hash)
  if (!parsed.ok) return parsed
  const last = parsed.value.at(-1) as IpsecKey
  const encryptionKey = sound(random)(last.encryptionKey.length)
  const authenticationKey = sound(random)(last.authenticationKey.length)
  const next = { ...last, id: nextKeyId(last.id, taken), encryptionKey, authenticationKey }
  return ok(formatKeyText(next, hasPlus(current)))
}
