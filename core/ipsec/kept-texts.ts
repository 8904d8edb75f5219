import { Fault } from '#core/fault/fault.ts'
import { fail, ok, type Result } from '#core/fault/result.ts'
import type { IpsecHash } from './hash.ts'
import type { IpsecKey, KeyFingerprint } from './key.ts'
import { parseKeyTexts } from './key-text.ts'
import { formatKeyText } from './new-key-text.ts'

/** The operator writes it, agents read it: what a node that starts in the middle of a rotation needs. */
export const KEPT_TEXTS_SECRET = 'pellicle-ipsec-keys'

/** What core/transition/rotation-operator.ts decides, with the keys themselves. */
export interface KeptTexts {
  /** Oldest first. */
  readonly keys: readonly IpsecKey[]
  readonly retired: readonly KeyFingerprint[]
  readonly forced: readonly string[]
}

/** The Secret's data, before base64: `keys` as the user writes them, `retired` and `forced` a word a line. */
export function formatKeptTexts({ keys, retired, forced }: KeptTexts): Readonly<Record<string, string>> {
  const lines = (words: readonly string[]) => words.map((word) => `${word}\n`).join('')
  return { keys: lines(keys.map((key) => formatKeyText(key, true))), retired: lines(retired), forced: lines(forced) }
}

/** Fields that are not there are empty: nothing is kept yet. */
export function parseKeptTexts(
  data: Readonly<Record<string, string | undefined>>,
  hash: IpsecHash,
): Result<KeptTexts, Fault> {
  const words = (text: string | undefined) => (text ?? '').split(/\s+/).filter((word) => word !== '')
  const retired = words(data['retired'])
  if (!retired.every(isFingerprint)) {
    return fail(
      new Fault('ipsec.kept.invalid', `the retired fingerprints in ${KEPT_TEXTS_SECRET} cannot be read`, {
        field: `Secret/${KEPT_TEXTS_SECRET}`,
        remedy: `Delete that Secret while no rotation is going on; the operator writes it anew.`,
      }),
    )
  }
  const forced = words(data['forced'])
  if ((data['keys'] ?? '').trim() === '') return ok({ keys: [], retired, forced })
  const keys = parseKeyTexts(data['keys'] ?? '', hash)
  return keys.ok ? ok({ keys: keys.value, retired, forced }) : keys
}

function isFingerprint(word: string): word is KeyFingerprint {
  return /^[0-9a-f]{16}$/.test(word)
}
