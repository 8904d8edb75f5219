import { fromHex } from '#core/bytes/text.ts'
import { type PublicKey, parsePublicKey } from './key.ts'
import { TAI64N_BYTES } from './tai64n.ts'

/** The latest TAI64N labels of one peer, received and sent. */
export interface Labels {
  readonly received: Uint8Array
  readonly sent: Uint8Array
}

/** One line a peer: public key, label received, label sent. */
export function formatLabels(labels: Iterable<readonly [PublicKey, Labels]>): string {
  return [...labels].map(([key, { received, sent }]) => `${key} ${received.toHex()} ${sent.toHex()}\n`).join('')
}

/** Lines that are none are left out: a lost label costs one possible replay of one initiation, not the keeper. */
export function parseLabels(text: string): Map<PublicKey, Labels> {
  const labels = new Map<PublicKey, Labels>()
  for (const line of text.split('\n')) {
    const [keyText = '', ...labelTexts] = line.split(' ')
    const key = parsePublicKey(keyText)
    const [received, sent] = labelTexts.map(fromHex)
    if (key === undefined || received?.length !== TAI64N_BYTES || sent?.length !== TAI64N_BYTES) continue
    labels.set(key, { received, sent })
  }
  return labels
}
