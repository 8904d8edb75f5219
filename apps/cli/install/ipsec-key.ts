import { IPSEC_SECRET, IPSEC_SECRET_FIELD } from '#core/api/ipsec-secrets.ts'
import type { Cluster } from '../cluster.ts'
import { checkKey } from '../ipsec/key-check.ts'
import type { Progress } from '../output/progress.ts'
import { type Values, valueAt } from '../values/set.ts'

/**
 * Agents start without an IPsec key and wait for it, so a missing one stops no installation (nor does it with Cilium); but
 * whoever installs should not have to find out by the agents' log.
 */
export async function warnAboutKey(
  cluster: Cluster,
  values: Values,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  // Cilium's type where none is given
  if (valueAt(values, 'encryption.enabled') !== true || (valueAt(values, 'encryption.type') ?? 'ipsec') !== 'ipsec')
    return
  const name = textAt(values, 'encryption.ipsec.secretName') ?? IPSEC_SECRET
  const field = textAt(values, 'encryption.ipsec.keyFile') ?? IPSEC_SECRET_FIELD
  const check = await checkKey(cluster, { name, field }, signal)
  if (check.state === 'good' || check.state === 'unknown') return
  const sentence = `${check.sentence.charAt(0).toUpperCase()}${check.sentence.slice(1)}`
  if (check.state === 'wrong') {
    progress.say(`⚠️  ${sentence}`)
    return
  }
  progress.say(`⚠️  ${sentence}. Agents wait for the key; create it:`)
  progress.say(`    ${check.command}`)
}

function textAt(values: Values, path: string): string | undefined {
  const value = valueAt(values, path)
  return typeof value === 'string' && value !== '' ? value : undefined
}
