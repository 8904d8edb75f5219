import { CILIUM_NODES, type CiliumNode } from '#core/api/cilium-node.ts'
import { ANNOTATION, CLEANUP } from '#core/api/names.ts'
import { Fault } from '#core/fault/fault.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { hasCode } from '#io/kube/errors.ts'
import { mapLimit } from '../../concurrency.ts'
import type { CliClock } from '../../context.ts'
import { readNodes } from '../../install/surroundings.ts'

export interface CleanupOptions {
  readonly clock: CliClock
  /** Milliseconds. */
  readonly duration: number
  readonly signal: AbortSignal
  readonly onProgress: (state: CleanupState) => void
}

export interface CleanupState {
  readonly done: readonly string[]
  /** Node → why it failed. */
  readonly failed: ReadonlyMap<string, string>
  readonly waiting: readonly string[]
}

const PAUSE_MS = 500

/**
 * Asks every node's agent to remove what it has made, and waits for their answers. A node that is gone is not waited
 * for. Ends when none is waited for any more, or when the time is up.
 */
export async function cleanNodes(client: KubeClient, options: CleanupOptions): Promise<CleanupState> {
  const { clock, signal } = options
  const end = clock.now() + options.duration
  const alive = new Set((await readNodes(client, signal)).map((node) => node.name))
  await mapLimit(
    (await ciliumNodes(client, signal)).filter(({ metadata }) => alive.has(metadata.name)),
    5,
    (node) => request(client, node, signal),
  )
  for (;;) {
    const state = readCleanup(await ciliumNodes(client, signal), alive)
    options.onProgress(state)
    if (state.waiting.length === 0 || clock.now() + PAUSE_MS > end) return state
    await clock.sleep(PAUSE_MS, signal)
  }
}

export function readCleanup(nodes: readonly CiliumNode[], alive: ReadonlySet<string>): CleanupState {
  const done: string[] = []
  const waiting: string[] = []
  const failed = new Map<string, string>()
  for (const { metadata } of nodes) {
    if (!alive.has(metadata.name)) continue
    const said = metadata.annotations?.[ANNOTATION.cleanup]
    if (said === CLEANUP.done) done.push(metadata.name)
    else if (said?.startsWith(CLEANUP.failed) === true) failed.set(metadata.name, said.slice(CLEANUP.failed.length))
    else waiting.push(metadata.name)
  }
  return { done, failed, waiting }
}

/** What keeps the release from being deleted; undefined when every node is clean. */
export function cleanupFault({ failed, waiting }: CleanupState, program: string): Fault | undefined {
  if (failed.size === 0 && waiting.length === 0) return undefined
  const parts = [...failed].map(([name, why]) => `${name}: ${why}`)
  if (waiting.length > 0) parts.push(`no answer from ${waiting.join(', ')}`)
  return new Fault('uninstall.nodes', `these nodes have not cleaned up: ${parts.join('; ')}`, {
    field: [...failed.keys(), ...waiting].map((name) => `node/${name}`).join(', '),
    remedy:
      'Look whether their agents run, and run it again; or go on without them by ' +
      `${program} uninstall --force: they stay closed until they are installed again or restarted`,
  })
}

async function request(client: KubeClient, node: CiliumNode, signal: AbortSignal): Promise<void> {
  if (node.metadata.annotations?.[ANNOTATION.cleanup] === CLEANUP.done) return
  const patch = { metadata: { annotations: { [ANNOTATION.cleanup]: CLEANUP.requested } } }
  try {
    await client.patch(CILIUM_NODES, node.metadata.name, patch, { signal })
  } catch (error) {
    if (!hasCode(error, 'kube.not-found')) throw error
  }
}

async function ciliumNodes(client: KubeClient, signal: AbortSignal): Promise<readonly CiliumNode[]> {
  try {
    return (await client.listAll(CILIUM_NODES, { signal })).items
  } catch (error) {
    if (hasCode(error, 'kube.not-found')) return []
    throw error
  }
}
