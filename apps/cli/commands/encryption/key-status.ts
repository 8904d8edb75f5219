import { describeFault, Fault } from '#core/fault/fault.ts'
import { connectCluster } from '../../cluster.ts'
import type { CliContext } from '../../context.ts'
import type { ClusterFlags } from '../../flags.ts'
import { readUserSecret, secretPlace } from '../../ipsec/secret.ts'

export interface KeyStatusFlags extends ClusterFlags {
  /** Milliseconds. */
  readonly waitDuration: number
  readonly output: 'summary' | 'json'
}

/** The one command of this CLI that prints a key: it is what it is for, as in Cilium's. */
export async function keyStatus(this: CliContext, flags: KeyStatusFlags): Promise<Error | undefined> {
  const cluster = await connectCluster(this, flags)
  const signal = AbortSignal.any([this.signal, AbortSignal.timeout(flags.waitDuration)])
  try {
    const { text } = await readUserSecret(cluster, await secretPlace(cluster, signal), signal)
    const key = text.trim()
    this.process.stdout.write(
      flags.output === 'json' ? `${JSON.stringify({ 'ipsec-key': key }, undefined, 1)}\n` : `IPsec key: ${key}\n`,
    )
    return undefined
  } catch (error) {
    this.signal.throwIfAborted()
    return new Fault('encryption.key-status', `Unable to display IPsec key: ${describeFault(error)}`)
  }
}
