import type { EncryptionStatus } from '#core/status/encryption-status.ts'
import {
  formatIpsec,
  formatIpsecNode,
  type IpsecFacts,
  type IpsecReport,
  ipsecReportOf,
  nodeKeyReport,
  rotationReport,
} from './ipsec-report.ts'

/** Every agent's answer to `cilium encrypt status -o json`, by node. */
export type NodeAnswers = ReadonlyMap<string, Partial<EncryptionStatus>>

/** Cilium's names, then ours; those of IPsec where a node encrypts by it. */
export interface EncryptionReport extends Partial<IpsecReport> {
  readonly 'total-node-count': number
  readonly 'enc-disabled-node-count': number
  /** Closed, with a key, as the next. */
  readonly 'enc-ipsec-node-count': number
  /** Closed, with a key: what leaves these nodes' pods for others is encrypted. */
  readonly 'enc-wireguard-node-count': number
  /** Node → what is not done yet there, or wrong. */
  readonly 'pellicle-unfinished-nodes': Readonly<Record<string, string>>
}

/** `withoutKey`: nodes whose CiliumNode has no key that can be used. That counts only once a node encrypts. */
export function reportOf(answers: NodeAnswers, withoutKey: readonly string[], facts: IpsecFacts): EncryptionReport {
  const statuses = [...answers.values()]
  const count = (fits: (status: Partial<EncryptionStatus>) => boolean) => statuses.filter(fits).length
  const encrypts = statuses.some(({ mode, msg }) => mode !== undefined && (mode !== 'Disabled' || hasText(msg)))
  const unfinished: Record<string, string> = {}
  for (const [node, { msg }] of answers) if (hasText(msg)) unfinished[node] = msg
  for (const node of encrypts ? withoutKey : []) unfinished[node] ??= 'has published no key: its pods cannot be reached'
  const done = (wanted: EncryptionStatus['mode']) =>
    [...answers].filter(([node, { mode }]) => mode === wanted && unfinished[node] === undefined).length
  return {
    'total-node-count': answers.size,
    'enc-disabled-node-count': count(({ mode }) => mode === 'Disabled'),
    'enc-ipsec-node-count': done('IPsec'),
    'enc-wireguard-node-count': done('Wireguard'),
    ...ipsecReportOf(answers, facts),
    'pellicle-unfinished-nodes': unfinished,
  }
}

/** A line for each mode that a node has and for each node that is not done, then an empty one. */
export function formatReport(report: EncryptionReport, facts: IpsecFacts): string {
  const total = report['total-node-count']
  const lines: string[] = []
  for (const [mode, count] of [
    ['Disabled', report['enc-disabled-node-count']],
    ['IPsec', report['enc-ipsec-node-count']],
    ['Wireguard', report['enc-wireguard-node-count']],
  ] as const) {
    if (count > 0) lines.push(`Encryption: ${mode} (${count}/${total} nodes)`)
    if (mode === 'IPsec' && isIpsecReport(report)) lines.push(...formatIpsec(report, total, facts))
  }
  for (const [node, why] of Object.entries(report['pellicle-unfinished-nodes'])) lines.push(`Node ${node}: ${why}`)
  return `${lines.join('\n')}\n\n`
}

export function formatNodes(answers: NodeAnswers, facts: IpsecFacts): string {
  return [...answers]
    .map(([node, status]) => {
      const message = hasText(status.msg) ? [`Msg: ${status.msg}`] : []
      const lines = [`Node: ${node}`, `Encryption: ${status.mode ?? 'unknown'}`, ...message]
      return `${[...lines, ...formatIpsecNode(node, status, facts)].join('\n')}\n\n`
    })
    .join('')
}

/** What Cilium's CLI adds to each node's own answer. */
export function nodeDocuments(answers: NodeAnswers, facts: IpsecFacts): Record<string, unknown> {
  const { expectedKeys, rotation } = facts
  return Object.fromEntries(
    [...answers].map(([node, status]) => {
      if (status.mode !== 'IPsec') return [node, status]
      const keys = facts.nodes.find(({ name }) => name === node)
      const inUse = status.ipsec?.['keys-in-use'] ?? 0
      return [
        node,
        {
          ...status,
          'ipsec-key-rotation-in-progress': rotation !== undefined || inUse !== expectedKeys,
          'ipsec-expected-key-count': expectedKeys,
          ...rotationReport(facts),
          ...(keys === undefined ? {} : { 'pellicle-keys': nodeKeyReport(keys) }),
        },
      ]
    }),
  )
}

function isIpsecReport(report: EncryptionReport): report is EncryptionReport & IpsecReport {
  return report['ipsec-max-seq-num'] !== undefined
}

function hasText(text: string | undefined): text is string {
  return text !== undefined && text !== ''
}
