import { CILIUM_NODES } from '#core/api/cilium-node.ts'
import { parseKeptKeys } from '#core/api/ipsec-secrets.ts'
import type { KeyRef } from '#core/ipsec/key.ts'
import { parseKeyTexts } from '#core/ipsec/key-text.ts'
import { IPSEC_WORDS_ANNOTATION, parseIpsecWords } from '#core/ipsec/words.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import { hasCode } from '#io/kube/errors.ts'
import type { Cluster } from '../cluster.ts'
import { findKeptSecret } from './secret.ts'

/**
 * Keys that the cluster holds whatever the user's Secret says, the newest last: the operator's, after those that only a
 * node still has. A new key under the id of one of them would be refused.
 */
export async function heldKeys(cluster: Cluster, signal: AbortSignal): Promise<readonly KeyRef[]> {
  const [secret, ciliumNodes] = await Promise.all([findKeptSecret(cluster, signal), listCiliumNodes(cluster, signal)])
  const kept = (parseKeptKeys(secret?.data)?.texts ?? []).flatMap((text): KeyRef[] => {
    const parsed = parseKeyTexts(text, ipsecHash)
    return parsed.ok ? parsed.value.map(({ id, fingerprint }) => ({ id, fingerprint })) : []
  })
  const said = ciliumNodes.flatMap(({ metadata }): readonly KeyRef[] => {
    const words = parseIpsecWords(metadata.annotations?.[IPSEC_WORDS_ANNOTATION])
    return words === undefined ? [] : [...words.receives, ...words.sends]
  })
  return [...said, ...kept]
}

/** None where nothing was ever installed. */
async function listCiliumNodes({ client }: Cluster, signal: AbortSignal) {
  try {
    return (await client.listAll(CILIUM_NODES, { signal })).items
  } catch (error) {
    if (hasCode(error, 'kube.not-found')) return []
    throw error
  }
}
