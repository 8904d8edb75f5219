import { readCiliumNode } from '#core/api/cilium-node.ts'
import { AGENT_DAEMONSET } from '#core/api/names.ts'
import { CLEAR, CLOSED, type Level } from '#core/transition/level.ts'
import type { ClusterObjects } from './objects.ts'

/** How far the cluster is on the way that the configuration asks for. */
export interface EncryptionState {
  readonly wanted: 'wireguard' | 'none'
  /** One sentence. */
  readonly phase: string
  /** Node → what it publishes; null: nothing yet. */
  readonly levels: Readonly<Record<string, Level | null>>
}

export interface EncryptionJudgement {
  readonly state: EncryptionState
  readonly errors: readonly string[]
  readonly warnings: readonly string[]
}

const WORDS: Readonly<Record<Level, string>> = { 0: 'clear', 1: 'receiving', 2: 'sending', 3: 'closed' }

/**
 * A change is done when every node publishes the level that is asked for. Until then that is a warning, so that
 * `--wait` waits for it: agents are ready before their cluster is.
 */
export function judgeEncryption(objects: ClusterObjects): EncryptionJudgement {
  const wanted = objects.config?.data?.['enable-wireguard']?.trim() === 'true' ? 'wireguard' : 'none'
  const goal = wanted === 'wireguard' ? CLOSED : CLEAR
  const levels: Record<string, Level | null> = {}
  const errors: string[] = []
  for (const node of objects.ciliumNodes) {
    const announced = readCiliumNode(node)
    levels[announced.name] = announced.announcement?.level ?? null
    if (wanted === 'wireguard' && announced.announcement?.level === CLOSED && announced.publicKey === undefined) {
      errors.push(`node ${announced.name} has published no public key: its pods cannot be reached`)
    }
  }
  const set = objects.daemonSets.find(({ metadata }) => metadata.name === AGENT_DAEMONSET)
  const expected = Math.max(set?.status?.desiredNumberScheduled ?? 0, Object.keys(levels).length)
  const behind = Object.entries(levels).filter(([, level]) => (level ?? CLEAR) !== goal)
  const done = Object.keys(levels).length - behind.length
  if (done >= expected) {
    const phase = wanted === 'none' ? 'Disabled' : `Wireguard on all ${expected} nodes`
    return { state: { wanted, phase, levels }, errors, warnings: [] }
  }
  const where = behind.map(([name, level]) => `${name}: ${level === null ? 'nothing published' : WORDS[level]}`)
  const unseen = expected - Object.keys(levels).length
  if (unseen > 0) where.push(`${unseen} without a CiliumNode`)
  // with encryption off and nothing to take back, a missing node is the agents' affair, not encryption's
  const change =
    wanted === 'wireguard' ? 'Turning Wireguard on' : behind.length > 0 ? 'Turning encryption off' : 'Starting'
  const phase = `${change}: ${done} of ${expected} nodes done (${where.join(', ')})`
  return { state: { wanted, phase, levels }, errors, warnings: [phase] }
}
