import type { EncryptionStatus } from '#core/status/encryption-status.ts'

/** Every agent's answer to `cilium encrypt status -o json`, by node. */
export type NodeAnswers = ReadonlyMap<string, Partial<EncryptionStatus>>

/** Cilium's names (cilium.md 3.8); those of IPsec come with IPsec. */
export interface EncryptionReport {
  readonly 'total-node-count': number
  readonly 'enc-disabled-node-count': number
  readonly 'enc-ipsec-node-count': number
  readonly 'enc-wireguard-node-count': number
}

export function reportOf(answers: NodeAnswers): EncryptionReport {
  const modes = [...answers.values()].map(({ mode }) => mode)
  const count = (mode: string) => modes.filter((other) => other === mode).length
  return {
    'total-node-count': answers.size,
    'enc-disabled-node-count': count('Disabled'),
    'enc-ipsec-node-count': count('IPsec'),
    'enc-wireguard-node-count': count('Wireguard'),
  }
}

/** A line for each mode that a node has, then an empty one. */
export function formatReport(report: EncryptionReport): string {
  const total = report['total-node-count']
  const lines: string[] = []
  for (const [mode, count] of [
    ['Disabled', report['enc-disabled-node-count']],
    ['IPsec', report['enc-ipsec-node-count']],
    ['Wireguard', report['enc-wireguard-node-count']],
  ] as const) {
    if (count > 0) lines.push(`Encryption: ${mode} (${count}/${total} nodes)`)
  }
  return `${lines.join('\n')}\n\n`
}

export function formatNodes(answers: NodeAnswers): string {
  return [...answers]
    .map(([node, { mode, msg }]) => {
      const message = msg === undefined || msg === '' ? '' : `Msg: ${msg}\n`
      return `Node: ${node}\nEncryption: ${mode ?? 'unknown'}\n${message}\n`
    })
    .join('')
}
