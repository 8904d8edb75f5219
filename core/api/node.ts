import { Fault } from '#core/fault/fault.ts'
import { type Ip, parseIp } from '#core/ip/address.ts'
import { type Cidr, parseCidr } from '#core/ip/cidr.ts'
import type { KubeObject, Resource } from './object.ts'

/** The parts of a Kubernetes Node that we read. */
export interface Node extends KubeObject {
  readonly spec?: {
    readonly podCIDR?: string
    readonly podCIDRs?: readonly string[]
    readonly providerID?: string
    readonly unschedulable?: boolean
    readonly taints?: readonly { readonly key: string; readonly value?: string; readonly effect: string }[]
  }
  readonly status?: {
    readonly addresses?: readonly { readonly type: string; readonly address: string }[]
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason?: string }[]
    readonly nodeInfo?: { readonly bootID?: string; readonly kernelVersion?: string; readonly kubeletVersion?: string }
  }
}

export const NODES: Resource<Node> = { group: '', version: 'v1', kind: 'Node', plural: 'nodes', namespaced: false }

/** What a Node says, parsed. A wrong part is left out and told in `problems`. */
export interface NodeFacts {
  readonly name: string
  readonly uid: string
  readonly labels: Readonly<Record<string, string>>
  readonly internalIps: readonly Ip[]
  readonly podCidrs: readonly Cidr[]
  readonly ready: boolean
  readonly problems: readonly Fault[]
}

export function readNode(node: Node): NodeFacts {
  const { name } = node.metadata
  const problems: Fault[] = []
  const internalIps: Ip[] = []
  for (const { type, address } of node.status?.addresses ?? []) {
    if (type !== 'InternalIP') continue
    const ip = parseIp(address)
    if (ip !== undefined) internalIps.push(ip)
    else problems.push(wrong(name, 'status.addresses', `InternalIP "${address}" is no IP address`))
  }
  const podCidrs: Cidr[] = []
  const texts = node.spec?.podCIDRs ?? (node.spec?.podCIDR === undefined ? [] : [node.spec.podCIDR])
  for (const text of texts) {
    const cidr = parseCidr(text)
    if (cidr !== undefined) podCidrs.push(cidr)
    else problems.push(wrong(name, 'spec.podCIDRs', `"${text}" is no prefix`))
  }
  return {
    name,
    uid: node.metadata.uid ?? '',
    labels: node.metadata.labels ?? {},
    internalIps,
    podCidrs,
    ready: node.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ?? false,
    problems,
  }
}

function wrong(name: string, field: string, sentence: string): Fault {
  return new Fault('node.malformed', `Node ${name}: ${field}: ${sentence}`, { field: `node/${name} ${field}` })
}
