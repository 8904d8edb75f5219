import { CILIUM_NODES } from '#core/api/cilium-node.ts'
import {
  FORCED_ANNOTATION,
  formatForced,
  KEPT_SECRET,
  parseForced,
  parseKeptKeys,
  ROTATION_BEGAN_ANNOTATION,
} from '#core/api/ipsec-secrets.ts'
import { SECRETS } from '#core/api/resources.ts'
import { Fault } from '#core/fault/fault.ts'
import { type KeyRef, sameKey } from '#core/ipsec/key.ts'
import { parseKeyTexts } from '#core/ipsec/key-text.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import type { Cluster } from '../cluster.ts'
import type { CliContext } from '../context.ts'
import { readNodes } from '../install/surroundings.ts'
import type { Progress } from '../output/progress.ts'
import { type RotationProgress, type RotationView, rotationProgress } from './rotation.ts'
import { findKeptSecret } from './secret.ts'

/** Asks once. */
export async function readRotation(cluster: Cluster, newest: KeyRef, signal: AbortSignal): Promise<RotationProgress> {
  return rotationProgress(await readRotationView(cluster, newest, signal))
}

export async function readRotationView(cluster: Cluster, newest: KeyRef, signal: AbortSignal): Promise<RotationView> {
  return (await readView(cluster, newest, signal)).view
}

async function readView(
  cluster: Cluster,
  newest: KeyRef,
  signal: AbortSignal,
): Promise<{ readonly view: RotationView; readonly forcedText: string | undefined }> {
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
  const forcedText = secret?.metadata.annotations?.[FORCED_ANNOTATION]
  const forced = parseForced(forcedText, kept?.at(-1))
  const since = secret?.metadata.annotations?.[ROTATION_BEGAN_ANNOTATION]
  return { view: { newest, kept, nodes, ciliumNodes: ciliumNodes.items, forced, since }, forcedText }
}

/**
 * Gives nodes up for the rotation that is under way. It is said for the key that nodes go over to now, so it is said
 * again when a third key follows.
 * @returns whether the key that it was asked for is that one, and all is said
 */
async function force(
  cluster: Cluster,
  { newest, kept }: RotationView,
  forcedText: string | undefined,
  nodes: readonly string[],
  signal: AbortSignal,
): Promise<boolean> {
  const target = kept?.at(-1)
  if (target === undefined || kept === undefined || (kept.length < 2 && !sameKey(target, newest))) return false
  if (kept.length < 2) return true
  const { client, namespace } = cluster
  const text = formatForced(target, nodes)
  if (forcedText !== text) {
    const patch = { metadata: { annotations: { [FORCED_ANNOTATION]: text } } }
    await client.patch(SECRETS, KEPT_SECRET, patch, { namespace, signal })
  }
  return sameKey(target, newest)
}

export interface WaitForRotation {
  readonly newest: KeyRef
  /** Nodes that are given up. */
  readonly forced: readonly string[]
  /** False: only until it is said which nodes are given up. */
  readonly toTheEnd: boolean
  /** Milliseconds. */
  readonly duration: number
  readonly progress: Progress
}

const PAUSE_MS = 300

/** Until every node uses `newest` alone. When the time is up: who is waited for. The rotation goes on by itself. */
export async function waitForRotation(
  context: CliContext,
  cluster: Cluster,
  { newest, forced, toTheEnd, duration, progress }: WaitForRotation,
): Promise<Error | undefined> {
  const begun = context.clock.now()
  for (;;) {
    const { view, forcedText } = await readView(cluster, newest, context.signal)
    const isForced = forced.length === 0 || (await force(cluster, view, forcedText, forced, context.signal))
    if (isForced && !toTheEnd) return undefined
    // the operator forgets who was given up when the old key is gone
    const state = rotationProgress({ ...view, forced: [...view.forced, ...forced] })
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
