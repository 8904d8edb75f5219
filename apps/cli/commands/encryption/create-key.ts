import { randomBytes } from 'node:crypto'
import { secretOf } from '#core/api/ipsec-secrets.ts'
import { SECRETS } from '#core/api/resources.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import { newKeyText, nextKeyId } from '#core/ipsec/new-key-text.ts'
import { hasCode } from '#io/kube/errors.ts'
import { connectCluster } from '../../cluster.ts'
import type { CliContext } from '../../context.ts'
import type { ClusterFlags } from '../../flags.ts'
import { heldKeys } from '../../ipsec/held-keys.ts'
import { currentKey, secretPlace } from '../../ipsec/secret.ts'
import { requireAlgorithm } from './algorithm.ts'

export interface CreateKeyFlags extends ClusterFlags {
  readonly authAlgo: string
  /** Milliseconds. */
  readonly waitDuration: number
}

export async function createKey(this: CliContext, flags: CreateKeyFlags): Promise<Error | undefined> {
  const algorithm = requireAlgorithm(flags.authAlgo)
  const { client, namespace } = await connectCluster(this, flags)
  const signal = AbortSignal.any([this.signal, AbortSignal.timeout(flags.waitDuration)])
  try {
    const place = await secretPlace({ client, namespace }, signal)
    // of a Secret that was deleted the operator still keeps the key, and refuses another one under its id
    const held = (await heldKeys({ client, namespace }, signal)).map(({ id }) => id)
    const newest = held.at(-1)
    const id = newest === undefined ? 1 : nextKeyId(newest, held)
    const text = newKeyText(algorithm, randomBytes, id)
    await client.create(SECRETS, secretOf(place.name, { [place.field]: text }), { namespace, signal })
    this.process.stdout.write(`IPsec key successfully created, new key SPI: ${currentKey(text).id}\n`)
    return undefined
  } catch (error) {
    this.signal.throwIfAborted()
    const why = hasCode(error, 'kube.already-exists')
      ? 'IPsec secret already exists, please rotate key if needed'
      : describeFault(error)
    return new Fault('encryption.create-key', `Unable to create IPsec key: ${why}`)
  }
}
