import { copyCommand } from '#core/api/ipsec-secrets.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import { hasKey, type KeyRef } from '#core/ipsec/key.ts'
import { refuseWeak } from '#core/ipsec/key-text.ts'
import { hasCode } from '#io/kube/errors.ts'
import type { Cluster } from '../cluster.ts'
import { heldKeys } from './held-keys.ts'
import { currentKey, placeOf, readUserSecret, sameSecretElsewhere } from './secret.ts'

/** Whether there is an IPsec key that agents can take. */
export type KeyCheck =
  | { readonly state: 'good'; readonly key: KeyRef }
  /** We may not look. */
  | { readonly state: 'unknown' }
  | {
      readonly state: 'missing' | 'wrong'
      /** One sentence without full stop, nothing of a key in it. */
      readonly sentence: string
      /** What to type. */
      readonly command: string
    }

/** @param place as {@link placeOf} gives it */
export async function checkKey(
  cluster: Cluster,
  place: ReturnType<typeof placeOf>,
  signal: AbortSignal,
): Promise<KeyCheck> {
  const { namespace } = cluster
  const { name, field } = place
  const where = `Secret ${name} in namespace ${namespace}`
  try {
    const current = currentKey((await readUserSecret(cluster, place, signal)).text)
    // one that is in use already is for a rotation to mend
    const weak = refuseWeak([current], [])
    if (weak !== undefined && !hasKey(await heldKeys(cluster, signal), current)) throw weak
    const { id, fingerprint } = current
    return { state: 'good', key: { id, fingerprint } }
  } catch (error) {
    if (hasCode(error, 'kube.forbidden')) return { state: 'unknown' }
    if (!(error instanceof Fault) || !error.code.startsWith('ipsec.')) throw error
    const create =
      `kubectl create -n ${namespace} secret generic ${name} ` +
      `--from-literal=${field}="3+ rfc4106(gcm(aes)) $(dd if=/dev/urandom count=20 bs=1 2> /dev/null | xxd -p -c 64) 128"`
    if (error.code === 'ipsec.secret.missing') {
      const elsewhere = await sameSecretElsewhere(cluster, name, signal)
      const [first] = elsewhere
      if (first === undefined) return { state: 'missing', sentence: `there is no ${where}`, command: create }
      const found = `there is one in namespace ${elsewhere.join(', ')}, where no agent looks`
      return {
        state: 'missing',
        sentence: `there is no ${where}; ${found}`,
        command: copyCommand(name, field, first, namespace),
      }
    }
    if (error.code === 'ipsec.secret.field') {
      const command = `kubectl delete -n ${namespace} secret ${name} && ${create}`
      return { state: 'missing', sentence: `${where} has no field ${field}`, command }
    }
    return { state: 'wrong', sentence: `${where}: ${describeFault(error)}`, command: create }
  }
}
