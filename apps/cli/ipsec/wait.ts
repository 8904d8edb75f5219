import { CILIUM_NODES } from '#core/api/cilium-node.ts'
import { FORCED_ANNOTATION, parseForced, parseKeptKeys } from '#core/api/ipsec-secrets.ts'
import { Fault } from '#core/fault/fault.ts'
import type { KeyRef } from '#core/ipsec/key.ts'
import { parseKeyTexts } from '#core/ipsec/key-text.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import type { Cluster } from '../cluster.ts'
import type { CliContext } from '../context.ts'
import { readNodes } from '../install/surroundings.ts'
import type { Progress } from '../output/progress.ts'
import { type RotationProgress, rotationProgress } from './rotation.ts'
import { findKeptSecret } from './secret.ts'

/** Asks once. `forced` adds to the nodes that are not waited for already. */
export async function readRotation(
  cluster: Cluster,
  newest: KeyRef,
  forced: readonly string[],
  signal: AbortSignal,
): Promise<RotationProgress> {
  const { client } = cluster
  const [nodes, ciliumNodes, secret] = await Promise.all([
    readNodes(client, signal),
    client.listAll(CILIUM_NODES, { signal }),
    findKeptSecret(cluster, signal),
  ])
  const kept = parseKeptKeys(secret?.data)?.texts.flatMap((text) => {
    const parsed = parseKeyTexts(text, ipsecHash)
    return parsed.ok ? parsed.value : []
  })
  const without = parseForced(secret?.metadata.annotations?.[FORCED_ANNOTATION], newest)
  return rotationProgress({ newest, kept, nodes, ciliumNodes: ciliumNodes.items, forced: [...without, ...forced] })
}

export interface WaitForRotation {
  readonly newest: KeyRef
  readonly forced: readonly string[]
  /** Milliseconds. */
  readonly duration: number
  readonly progress: Progress
}

const PAUSE_MS = 300

/** Until every node uses `newest` alone. When the time is up: who is waited for. The rotation goes on by itself. */
export async function waitForRotation(
  context: CliContext,
  cluster: Cluster,
  { newest, forced, duration, progress }: WaitForRotation,
): Promise<Error | undefined> {
  const begun = context.clock.now()
  for (;;) {
    const state = await readRotation(cluster, newest, forced, context.signal)
    const seconds = Math.round((context.clock.now() - begun) / 1000)
    if (state.done) {
      progress.say(`✅ ${capital(state.text)}`)
      return undefined
    }
    progress.pass(`🔑 ${capital(state.text)}${seconds < 5 ? '' : ` for ${seconds - (seconds % 5)} s`}`)
    if (context.clock.now() - begun + PAUSE_MS > duration) {
      progress.clear()
      const unready = state.waitingFor.length === 0 ? '' : ` (node ${state.waitingFor.join(', ')})`
      return new Fault('encryption.rotation', `the rotation to key ${newest.id} is not done yet: ${state.text}`, {
        field: '--wait-duration',
        remedy:
          `It goes on by itself, and no packet is lost meanwhile. If a node is lost for good${unready}, delete it from ` +
          `the cluster, or: ${context.program} encryption rotate-key --force NODE`,
      })
    }
    await context.clock.sleep(PAUSE_MS, context.signal)
  }
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}
