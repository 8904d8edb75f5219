import type { KeyRef } from '#core/ipsec/key.ts'
import type { EncryptionStatus, IpsecStatus } from '#core/status/encryption-status.ts'
import { xfrmSentence } from '#core/status/xfrm.ts'
import type { NodeKeys } from '../../ipsec/rotation.ts'
import type { NodeAnswers } from './report.ts'

/** Cilium's names; only where a node encrypts by IPsec. */
export interface IpsecReport {
  /** Keys in use → how many nodes have so many. */
  readonly 'ipsec-keys-in-use-node-count': Readonly<Record<string, number>>
  readonly 'ipsec-max-seq-num': string
  readonly 'ipsec-err-count': number
  readonly 'ipsec-key-rotation-in-progress': boolean
  readonly 'ipsec-expected-key-count': number
  /** Counter → packets, of all nodes. */
  readonly 'xfrm-errors': Readonly<Record<string, number>>
  /** Counter → nodes that count something there. */
  readonly 'xfrm-error-node-count': Readonly<Record<string, number>>
  /** Ours: how far the rotation is, and who is waited for; absent when there is none. */
  readonly 'pellicle-rotation'?: string
  /** RFC 3339; absent where nobody has said when it began. */
  readonly 'pellicle-rotation-since'?: string
  /** Names, sorted; absent when there is no rotation. */
  readonly 'pellicle-rotation-waiting-for'?: readonly string[]
  /** Ours: what every node says of its keys, each `ID:FINGERPRINT`, oldest first. */
  readonly 'pellicle-node-keys': Readonly<Record<string, NodeKeyReport>>
}

interface NodeKeyReport {
  readonly receives: readonly string[]
  /** What it may still send by; it may always send by the newest that it receives by. */
  readonly sends: readonly string[]
  readonly ready: boolean
}

interface RotationFacts {
  /** One line. */
  readonly text: string
  /** RFC 3339. */
  readonly since: string | undefined
  /** Sorted. */
  readonly waitingFor: readonly string[]
}

/** What the cluster, rather than its agents, says. */
export interface IpsecFacts {
  /** Of each node: one key to and one from every other node. */
  readonly expectedKeys: number
  /** Undefined: no rotation is under way. */
  readonly rotation: RotationFacts | undefined
  /** Of the nodes that are reported on. */
  readonly nodes: readonly NodeKeys[]
  /** Milliseconds since the epoch. */
  readonly now: number
}

export function ipsecReportOf(answers: NodeAnswers, facts: IpsecFacts): IpsecReport | undefined {
  const { expectedKeys, rotation } = facts
  const statuses = [...answers.values()]
    .filter(({ mode }) => mode === 'IPsec')
    .map(({ ipsec }): Partial<IpsecStatus> => ipsec ?? {})
  if (statuses.length === 0) return undefined
  const keys: Record<string, number> = {}
  const errors: Record<string, number> = {}
  const nodes: Record<string, number> = {}
  for (const status of statuses) {
    const inUse = status['keys-in-use'] ?? 0
    keys[inUse] = (keys[inUse] ?? 0) + 1
    for (const [name, count] of Object.entries(status['xfrm-errors'] ?? {})) {
      errors[name] = (errors[name] ?? 0) + count
      nodes[name] = (nodes[name] ?? 0) + 1
    }
  }
  return {
    'ipsec-keys-in-use-node-count': keys,
    'ipsec-max-seq-num': highest(statuses.map((status) => status['max-seq-number'] ?? 'N/A')),
    'ipsec-err-count': statuses.reduce((sum, status) => sum + (status['error-count'] ?? 0), 0),
    'ipsec-key-rotation-in-progress':
      rotation !== undefined || Object.keys(keys).some((count) => Number(count) !== expectedKeys),
    'ipsec-expected-key-count': expectedKeys,
    'xfrm-errors': errors,
    'xfrm-error-node-count': nodes,
    ...rotationReport(facts),
    'pellicle-node-keys': Object.fromEntries(facts.nodes.map((node) => [node.name, nodeKeyReport(node)])),
  }
}

export function rotationReport({ rotation }: IpsecFacts) {
  if (rotation === undefined) return {}
  const { text, since, waitingFor } = rotation
  return {
    'pellicle-rotation': text,
    ...(since === undefined ? {} : { 'pellicle-rotation-since': since }),
    'pellicle-rotation-waiting-for': waitingFor,
  }
}

export function nodeKeyReport({ words, ready }: NodeKeys): NodeKeyReport {
  const texts = (keys: readonly KeyRef[] = []) => keys.map(({ id, fingerprint }) => `${id}:${fingerprint}`)
  return { receives: texts(words?.receives), sends: texts(words?.sends), ready }
}

/** While a rotation is under way: what it is, since when, and where each node is. */
function rotationLines({ rotation, nodes, now }: IpsecFacts): string[] {
  if (rotation === undefined) return []
  const { text, since, waitingFor } = rotation
  const begun = since === undefined ? Number.NaN : Date.parse(since)
  const age = Number.isNaN(begun) ? '' : ` (${formatAge(now - begun)})`
  return [
    `\t${text}`,
    ...(since === undefined ? [] : [`\tsince ${since}${age}`]),
    ...nodes.map((node) => {
      const notes = [...(waitingFor.includes(node.name) ? ['waited for'] : []), ...(node.ready ? [] : ['NotReady'])]
      return `\tNode ${node.name}: ${keysOf(node)}${notes.length === 0 ? '' : ` (${notes.join(', ')})`}`
    }),
  ]
}

/** `receives 3, 4; sends 3`, by ids; with fingerprints where two keys have one id. */
function keysOf({ words }: NodeKeys): string {
  if (words === undefined) return 'has said nothing of keys'
  const all = [...words.receives, ...words.sends]
  const show = (key: KeyRef) =>
    all.some(({ id, fingerprint }) => id === key.id && fingerprint !== key.fingerprint)
      ? `${key.id} (${key.fingerprint})`
      : `${key.id}`
  const list = (keys: readonly KeyRef[]) => keys.map(show).join(', ') || 'by none'
  return `receives ${list(words.receives)}; sends ${list(words.sends)}`
}

function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60]
  return parts
    .map((count, at) => `${count}${'hms'[at]}`)
    .slice(seconds >= 3600 ? 0 : seconds >= 60 ? 1 : 2)
    .join('')
}

export function formatIpsec(report: IpsecReport, total: number, facts: IpsecFacts): string[] {
  const nodeCounts = report['xfrm-error-node-count']
  const keys = Object.entries(report['ipsec-keys-in-use-node-count'])
    .toSorted(([a], [b]) => Number(a) - Number(b))
    .map(([count, nodes]) => `${count} on ${nodes}/${total}`)
  return [
    `IPsec keys in use: ${keys.join(', ')}`,
    `IPsec highest Seq. Number: ${report['ipsec-max-seq-num']} across all nodes`,
    `IPsec expected key count: ${report['ipsec-expected-key-count']}`,
    `IPsec key rotation in progress: ${report['ipsec-key-rotation-in-progress']}`,
    ...rotationLines(facts),
    `IPsec errors: ${report['ipsec-err-count']} across all nodes`,
    ...Object.entries(report['xfrm-errors']).flatMap(([name, count]) => [
      `\t${name}: ${count} on ${nodeCounts[name] ?? 0}/${total} nodes`,
      `\t\t${xfrmSentence(name)}`,
    ]),
  ]
}

/** One node, as Cilium's `--per-node-details` has it. */
export function formatIpsecNode(node: string, status: Partial<EncryptionStatus>, facts: IpsecFacts): string[] {
  const { expectedKeys, rotation, nodes } = facts
  const keys = nodes.find(({ name }) => name === node)
  if (status.mode !== 'IPsec') return []
  const ipsec = status.ipsec ?? { 'decrypt-interfaces': [] }
  const inUse = ipsec['keys-in-use'] ?? 0
  return [
    `IPsec keys in use: ${inUse}`,
    `IPsec highest Seq. Number: ${ipsec['max-seq-number'] ?? 'N/A'}`,
    `IPsec expected key count: ${expectedKeys}`,
    `IPsec key rotation in progress: ${rotation !== undefined || inUse !== expectedKeys}`,
    ...(keys === undefined
      ? []
      : [`IPsec keys: ${keysOf(keys)}${rotation?.waitingFor.includes(node) === true ? ' (waited for)' : ''}`]),
    `IPsec errors: ${ipsec['error-count'] ?? 0}`,
    ...Object.entries(ipsec['xfrm-errors'] ?? {}).flatMap(([name, count]) => [
      `\t${name}: ${count}`,
      `\t\t${xfrmSentence(name)}`,
    ]),
  ]
}

/** The text with the greatest number before the slash; `N/A` only when no node has sent anything. */
function highest(texts: readonly string[]): string {
  let best = 'N/A'
  let most = -1n
  for (const text of texts) {
    const hex = /^0x[0-9a-f]{1,16}(?=\/|$)/i.exec(text)?.[0]
    if (hex === undefined || BigInt(hex) <= most) continue
    most = BigInt(hex)
    best = text
  }
  return best
}
