import { randomBytes } from 'node:crypto'
import { encodeSecret } from '#core/api/ipsec-secrets.ts'
import { CONFIG_MAP } from '#core/api/names.ts'
import { nearest } from '#core/api/nearest.ts'
import { CONFIG_MAPS, SECRETS } from '#core/api/resources.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import type { IpsecKey } from '#core/ipsec/key.ts'
import { hasPlus } from '#core/ipsec/key-text.ts'
import { type NewKeyAlgorithm, newKeyText, nextKeyId, nextKeyText } from '#core/ipsec/new-key-text.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import { type Cluster, connectCluster } from '../../cluster.ts'
import type { CliContext } from '../../context.ts'
import type { ClusterFlags } from '../../flags.ts'
import { readNodes } from '../../install/surroundings.ts'
import { currentKey, readUserSecret, secretPlace, type UserSecret } from '../../ipsec/secret.ts'
import { readRotation, waitForRotation } from '../../ipsec/wait.ts'
import { Progress } from '../../output/progress.ts'
import { requestedAlgorithm } from './algorithm.ts'

export interface RotateKeyFlags extends ClusterFlags {
  readonly authAlgo: string | undefined
  readonly wait: boolean
  /** Milliseconds. */
  readonly waitDuration: number
  readonly force: readonly string[] | undefined
  readonly interactive: boolean
}

/**
 * Writes the next key and waits until every node uses it alone. With `--force` a rotation that is under way is finished
 * without the named nodes; if there is none, one is begun that does not wait for them.
 */
export async function rotateKey(this: CliContext, flags: RotateKeyFlags): Promise<Error | undefined> {
  const algorithm = requestedAlgorithm(flags.authAlgo)
  const cluster = await connectCluster(this, flags)
  const progress = new Progress(this, flags.interactive)
  const forced = flags.force ?? []
  try {
    const secret = await readUserSecret(cluster, await secretPlace(cluster, this.signal), this.signal)
    const current = currentKey(secret.text)
    const uses = await usesIpsec(cluster, this.signal)
    if (forced.length > 0) await requireNodes(cluster, forced, uses, this.signal)
    const before = uses ? await readRotation(cluster, current, this.signal) : undefined
    let newest = current
    if (forced.length > 0 && before?.done === false) {
      progress.say(`ℹ️  The rotation to key ${current.id} goes on without ${forced.join(', ')}`)
    } else {
      if (before?.done === false) {
        progress.say(`ℹ️  A rotation to key ${current.id} is under way (${before.text}): the new key waits for its end`)
      }
      newest = await writeNext(cluster, secret, current, { algorithm, taken: before?.older ?? [] }, this.signal)
      this.process.stdout.write(`IPsec key successfully rotated, new key SPI: ${newest.id}\n`)
    }
    if (!uses) {
      progress.say('ℹ️  IPsec is not on in this cluster: no node has to take the key up')
      return undefined
    }
    if (!flags.wait && forced.length === 0) return undefined
    const { wait: toTheEnd, waitDuration: duration } = flags
    return await waitForRotation(this, cluster, { newest, forced, toTheEnd, duration, progress })
  } catch (error) {
    this.signal.throwIfAborted()
    return new Fault('encryption.rotate-key', `Unable to rotate IPsec key: ${describeFault(error)}`)
  }
}

/**
 * Only over the text that was read: two that rotate at once do not both believe to have done it. Not with an id that nodes
 * hold with another key, as after an older text was put back.
 */
async function writeNext(
  { client, namespace }: Cluster,
  { name, field, text, object }: UserSecret,
  current: IpsecKey,
  { algorithm, taken }: { readonly algorithm: NewKeyAlgorithm | undefined; readonly taken: readonly number[] },
  signal: AbortSignal,
): Promise<IpsecKey> {
  let next: string
  if (algorithm === undefined) {
    const made = nextKeyText(text, randomBytes, ipsecHash, taken)
    if (!made.ok) throw made.error
    next = made.value
  } else next = newKeyText(algorithm, randomBytes, nextKeyId(current.id, taken), hasPlus(text))
  const metadata = { resourceVersion: object.metadata.resourceVersion }
  await client.patch(SECRETS, name, { metadata, data: { [field]: encodeSecret(next) } }, { namespace, signal })
  return currentKey(next)
}

async function requireNodes(
  { client }: Cluster,
  names: readonly string[],
  uses: boolean,
  signal: AbortSignal,
): Promise<void> {
  if (!uses) throw new Fault('encryption.off', 'IPsec is not on: no node is waited for', { field: '--force' })
  const there = (await readNodes(client, signal)).map(({ name }) => name)
  for (const name of names) {
    if (there.includes(name)) continue
    const close = nearest(name, there)
    throw new Fault('encryption.force', `there is no node ${name}`, {
      field: '--force',
      remedy: close === undefined ? 'A node that is gone from the cluster is not waited for' : `Did you mean ${close}?`,
    })
  }
}

async function usesIpsec({ client, namespace }: Cluster, signal: AbortSignal): Promise<boolean> {
  const config = await client.find(CONFIG_MAPS, CONFIG_MAP, { namespace, signal })
  return config?.data?.['enable-ipsec']?.trim() === 'true'
}
