import { SECRET_FIELD, type SecretField } from '#core/api/config-fields.ts'
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

export interface UserSecret extends SecretField {
  readonly object: SecretObject
  /** Secret. */
  readonly text: string
}

/** Where the user's key is: as the chart's values said. Before an installation nobody has said it: then Cilium's names. */
export async function secretPlace({ client, namespace }: Cluster, signal: AbortSignal): Promise<SecretField> {
  const config = await client.find(CONFIG_MAPS, CONFIG_MAP, { namespace, signal })
  return placeOf(config?.data)
}

export function placeOf(data: Readonly<Record<string, string>> | undefined): SecretField {
  const said = data?.['pellicle-ipsec-secret']?.trim()
  const parsed = said === undefined ? undefined : SECRET_FIELD.parse(said)
  return parsed ?? { name: IPSEC_SECRET, field: IPSEC_SECRET_FIELD }
}

/** @throws Fault `ipsec.secret.*` with Cilium's sentences */
export async function readUserSecret(cluster: Cluster, place: SecretField, signal: AbortSignal): Promise<UserSecret> {
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
