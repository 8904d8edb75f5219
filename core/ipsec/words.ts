import { type KeyFingerprint, type KeyRef, MAX_KEY_ID } from './key.ts'

/** On the CiliumNode: `receives=3:FINGERPRINT,4:FINGERPRINT sends=3:FINGERPRINT`; either list may be empty. */
export const IPSEC_WORDS_ANNOTATION = 'pellicle.io/ipsec-keys'

/**
 * What a node says about its IPsec keys. Both lists oldest first. `receives` is written after the states are installed for
 * all peers, `sends` after a barrier: from then on no packet leaves by a key that is neither in it nor the newest of
 * `receives` (core/transition/rotation.ts says what follows from that).
 */
export interface IpsecWords {
  readonly receives: readonly KeyRef[]
  readonly sends: readonly KeyRef[]
}

export function formatIpsecWords({ receives, sends }: IpsecWords): string {
  const list = (keys: readonly KeyRef[]) => keys.map(({ id, fingerprint }) => `${id}:${fingerprint}`).join(',')
  return `receives=${list(receives)} sends=${list(sends)}`
}

/** Undefined when `text` is absent or not of that form. */
export function parseIpsecWords(text: string | undefined): IpsecWords | undefined {
  const match = /^receives=(\S*) sends=(\S*)$/.exec(text ?? '')
  const receives = parseRefs(match?.[1])
  const sends = parseRefs(match?.[2])
  return receives === undefined || sends === undefined ? undefined : { receives, sends }
}

function parseRefs(text: string | undefined): readonly KeyRef[] | undefined {
  if (text === undefined) return undefined
  if (text === '') return []
  const refs: KeyRef[] = []
  for (const part of text.split(',')) {
    const match = /^([1-9][0-9]?):([0-9a-f]{16})$/.exec(part)
    const id = Number(match?.[1])
    if (match === null || id > MAX_KEY_ID) return undefined
    refs.push({ id, fingerprint: match[2] as KeyFingerprint })
  }
  // more than two keys are never held at once; a list of hundreds is a mistake or malice
  return refs.length <= MAX_KEY_ID ? refs : undefined
}
