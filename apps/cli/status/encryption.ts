import { readCiliumNode } from '#core/api/cilium-node.ts'
import { AGENT_DAEMONSET } from '#core/api/names.ts'
import { CLEAR, CLOSED, type Level } from '#core/transition/level.ts'
import { settledIn } from '#core/transition/mode.ts'
import type { ClusterObjects } from './objects.ts'

/** How far the cluster is on the way that the configuration asks for. */
export interface EncryptionState {
  readonly wanted: 'wireguard' | 'ipsec' | 'none'
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
  const wanted = wantedOf(objects.config?.data)
  const name = NAMES[wanted]
  const goal = wanted === 'none' ? CLEAR : CLOSED
  const levels: Record<string, Level | null> = {}
  const keyless: string[] = []
  /** Nodes that still encrypt by the other one, or receive by it. */
  const changing = new Map<string, Level>()
  for (const node of objects.ciliumNodes) {
    const { name: nodeName, announcement, publicKey, ipsec, mode } = readCiliumNode(node)
    if (wanted !== 'none' && mode !== undefined && mode.level !== settledIn(wanted).level)
      changing.set(nodeName, mode.level)
    levels[nodeName] = announcement?.level ?? null
    const hasKey = wanted === 'wireguard' ? publicKey !== undefined : (ipsec?.receives.length ?? 0) > 0
    if (wanted !== 'none' && !hasKey) keyless.push(nodeName)
  }
  const set = objects.daemonSets.find(({ metadata }) => metadata.name === AGENT_DAEMONSET)
  const expected = Math.max(set?.status?.desiredNumberScheduled ?? 0, Object.keys(levels).length)
  const unseen = expected - Object.keys(levels).length
  const errors = wanted === 'ipsec' ? keyErrors(objects, keyless, changing, unseen) : []
  for (const node of wanted === 'wireguard' ? keyless : []) {
    if (levels[node] === CLOSED && !changing.has(node))
      errors.push(`node ${node} has published no public key: its pods cannot be reached`)
  }
  const behind = Object.entries(levels).filter(([node, level]) => (level ?? CLEAR) !== goal || changing.has(node))
  const done = Object.keys(levels).length - behind.length
  if (done >= expected) {
    const rotation = objects.keys?.rotation
    const rotating = rotation === undefined || rotation.done || keyless.length > 0 ? '' : `; ${rotation.text}`
    const phase = wanted === 'none' ? 'Disabled' : `${name} on all ${expected} nodes${rotating}`
    return { state: { wanted, phase, levels }, errors, warnings: [] }
  }
  const isChange = changing.size > 0 && behind.every(([, level]) => level === goal)
  const where = behind.map(([node, level]) => {
    const stage = changing.get(node)
    const word = isChange && stage !== undefined ? STAGES[stage] : level === null ? 'nothing published' : WORDS[level]
    return `${node}: ${word}`
  })
  if (unseen > 0) where.push(`${unseen} without a CiliumNode`)
  // with encryption off and nothing to take back, a missing node is the agents' affair, not encryption's
  const change = isChange
    ? `Changing to ${name}`
    : wanted !== 'none'
      ? `Turning ${name} on`
      : behind.length > 0
        ? 'Turning encryption off'
        : 'Starting'
  const phase = `${change}: ${done} of ${expected} nodes done (${where.join(', ')})`
  return { state: { wanted, phase, levels }, errors, warnings: [phase] }
}

/** core/transition/mode.ts */
const STAGES: Readonly<Record<Level, string>> = {
  0: 'Wireguard',
  1: 'Wireguard, receiving both',
  2: 'IPsec, receiving both',
  3: 'IPsec',
}

const NAMES = { wireguard: 'Wireguard', ipsec: 'IPsec', none: '' } as const

function wantedOf(config: Readonly<Record<string, string>> | undefined): EncryptionState['wanted'] {
  if (config?.['enable-wireguard']?.trim() === 'true') return 'wireguard'
  return config?.['enable-ipsec']?.trim() === 'true' ? 'ipsec' : 'none'
}

/**
 * A Secret that is missing is an error only while a node waits for it: keys may also lie in files of the nodes. A text
 * that is no key is always one, though the key before it goes on.
 */
function keyErrors(
  { keys }: ClusterObjects,
  keyless: readonly string[],
  changing: ReadonlyMap<string, Level>,
  unseen: number,
): string[] {
  const check = keys?.check
  if (check?.state === 'wrong') return [check.sentence]
  // an agent that never had a key may not have published anything yet
  const whose = [...keyless, ...(unseen > 0 ? [`${unseen} without a CiliumNode`] : [])]
  const waiting = `${whose.join(', ')} ${keyless.length + unseen === 1 ? 'waits' : 'wait'} for an IPsec key`
  if (whose.length > 0 && check?.state === 'missing')
    return [`${waiting}: ${check.sentence}. Create it: ${check.command}`]
  // while the mode changes a node goes on with WireGuard until it has the key
  if (keyless.every((node) => changing.has(node))) return []
  return [`${waiting}, and no pod there reaches another node until its agent has it: see its log`]
}
