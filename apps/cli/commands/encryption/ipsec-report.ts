import type { EncryptionStatus, IpsecStatus } from '#core/status/encryption-status.ts'
import { xfrmSentence } from '#core/status/xfrm.ts'
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
}

/** What the cluster, rather than its agents, says. */
export interface IpsecFacts {
  /** Of each node: one key to and one from every other node. */
  readonly expectedKeys: number
  /** Undefined: no rotation is under way. */
  readonly rotation: string | undefined
}

export function ipsecReportOf(answers: NodeAnswers, { expectedKeys, rotation }: IpsecFacts): IpsecReport | undefined {
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
    ...(rotation === undefined ? {} : { 'pellicle-rotation': rotation }),
  }
}

export function formatIpsec(report: IpsecReport, total: number): string[] {
  const nodeCounts = report['xfrm-error-node-count']
  const keys = Object.entries(report['ipsec-keys-in-use-node-count'])
    .toSorted(([a], [b]) => Number(a) - Number(b))
    .map(([count, nodes]) => `${count} on ${nodes}/${total}`)
  const rotation = report['pellicle-rotation']
  return [
    `IPsec keys in use: ${keys.join(', ')}`,
    `IPsec highest Seq. Number: ${report['ipsec-max-seq-num']} across all nodes`,
    `IPsec expected key count: ${report['ipsec-expected-key-count']}`,
    `IPsec key rotation in progress: ${report['ipsec-key-rotation-in-progress']}`,
    ...(rotation === undefined ? [] : [`\t${rotation}`]),
    `IPsec errors: ${report['ipsec-err-count']} across all nodes`,
    ...Object.entries(report['xfrm-errors']).flatMap(([name, count]) => [
      `\t${name}: ${count} on ${nodeCounts[name] ?? 0}/${total} nodes`,
      `\t\t${xfrmSentence(name)}`,
    ]),
  ]
}

/** One node, as Cilium's `--per-node-details` has it. */
export function formatIpsecNode(status: Partial<EncryptionStatus>, { expectedKeys, rotation }: IpsecFacts): string[] {
  if (status.mode !== 'IPsec') return []
  const ipsec = status.ipsec ?? { 'decrypt-interfaces': [] }
  const inUse = ipsec['keys-in-use'] ?? 0
  return [
    `IPsec keys in use: ${inUse}`,
    `IPsec highest Seq. Number: ${ipsec['max-seq-number'] ?? 'N/A'}`,
    `IPsec expected key count: ${expectedKeys}`,
    `IPsec key rotation in progress: ${rotation !== undefined || inUse !== expectedKeys}`,
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
