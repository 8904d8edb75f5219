import { IPSEC_SECRET, IPSEC_SECRET_FIELD, KEPT_SECRET, secretText } from '#core/api/ipsec-secrets.ts'
import { CONFIG_MAP } from '#core/api/names.ts'
import { CONFIG_MAPS, SECRETS } from '#core/api/resources.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import type { IpsecKey } from '#core/ipsec/key.ts'
import { parseKeyTexts } from '#core/ipsec/key-text.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import { hasCode } from '#io/kube/errors.ts'
import type { Cluster } from '../cluster.ts'

type SecretObject = NonNullable<(typeof SECRETS)['shape']>

/** Where the user's key is: as the chart's values said, else Cilium's names. */
export interface SecretPlace {
  readonly name: string
  readonly field: string
}

export interface UserSecret extends SecretPlace {
  readonly object: SecretObject
  /** Secret. */
  readonly text: string
}

/** Before an installation there is no ConfigMap: then Cilium's names. */
export async function secretPlace({ client, namespace }: Cluster, signal: AbortSignal): Promise<SecretPlace> {
  const config = await client.find(CONFIG_MAPS, CONFIG_MAP, { namespace, signal })
  return placeOf(config?.data)
}

export function placeOf(data: Readonly<Record<string, string>> | undefined): SecretPlace {
  const file = data?.['ipsec-key-file']?.trim().split('/').at(-1)
  return { name: data?.['pellicle-ipsec-secret']?.trim() || IPSEC_SECRET, field: file || IPSEC_SECRET_FIELD }
}

/** @throws Fault `ipsec.secret.*` with Cilium's sentences */
export async function readUserSecret(cluster: Cluster, place: SecretPlace, signal: AbortSignal): Promise<UserSecret> {
  const { client, namespace } = cluster
  let object: SecretObject
  try {
    object = await client.get(SECRETS, place.name, { namespace, signal })
  } catch (error) {
    if (!hasCode(error, 'kube.not-found')) throw error
    throw new Fault('ipsec.secret.missing', `failed to fetch IPsec secret: ${describeFault(error)}`, {
      field: `secret/${place.name}`,
      remedy: `Create it in namespace ${namespace}: encryption create-key`,
    })
  }
  const text = secretText(object.data, place.field)
  if (text === undefined) {
    throw new Fault('ipsec.secret.field', `IPsec key not found in the secret: ${place.name}`, {
      field: `secret/${place.name}, data.${place.field}`,
      remedy: `Put the key text under ${place.field}`,
    })
  }
  return { ...place, object, text }
}

/** The key that counts, which is the last line's. @throws Fault `ipsec.key.*`, nothing of the key in it */
export function currentKey(text: string): IpsecKey {
  const parsed = parseKeyTexts(text, ipsecHash)
  if (!parsed.ok) {
    throw new Fault(parsed.error.code, `IPsec key has unsupported format: ${parsed.error.message}`, {
      ...(parsed.error.field === undefined ? {} : { field: parsed.error.field }),
      ...(parsed.error.remedy === undefined ? {} : { remedy: parsed.error.remedy }),
    })
  }
  return parsed.value.at(-1) as IpsecKey
}

/** The same Secret in other namespaces: where people put it by mistake. Empty when we may not look. */
export async function sameSecretElsewhere(
  { client, namespace }: Cluster,
  name: string,
  signal: AbortSignal,
): Promise<readonly string[]> {
  try {
    const scope = { allNamespaces: true, fieldSelector: `metadata.name=${name}`, signal }
    const { items } = await client.listAll(SECRETS, scope)
    return items.flatMap(({ metadata }) =>
      metadata.namespace === undefined || metadata.namespace === namespace ? [] : [metadata.namespace],
    )
  } catch (error) {
    if (hasCode(error, 'kube.forbidden')) return []
    throw error
  }
}

/** What the operator keeps; undefined: nothing yet. */
export async function findKeptSecret(cluster: Cluster, signal: AbortSignal): Promise<SecretObject | undefined> {
  return await cluster.client.find(SECRETS, KEPT_SECRET, { namespace: cluster.namespace, signal })
}
