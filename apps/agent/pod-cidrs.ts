import { type CiliumNode, type OwnAnnouncement, operatorError, readCiliumNode } from '#core/api/cilium-node.ts'
import type { AgentConfig } from '#core/api/config.ts'
import type { NodeFacts } from '#core/api/node.ts'
import { FAMILIES } from '#core/ip/address.ts'
import { type Cidr, cidrFamily } from '#core/ip/cidr.ts'

/**
 * The pod CIDRs of this node: its Node's, or with `ipam: cluster-pool` those that the operator has written on its CiliumNode
 * (`own`), one at least of each family. Else a sentence on what is missing.
 */
export function ownPodCidrs(
  config: AgentConfig,
  node: NodeFacts,
  own: CiliumNode | undefined,
): readonly Cidr[] | string {
  const used = (cidr: Cidr) => (cidrFamily(cidr) === 4 ? config.ipv4 : config.ipv6)
  const families = FAMILIES.filter((family) => (family === 4 ? config.ipv4 : config.ipv6))
  if (config.ipam === 'kubernetes') {
    const cidrs = node.podCidrs.filter(used)
    if (cidrs.length > 0) return cidrs
    return `Node ${node.name} has no pod CIDR (the controller manager gives one: --allocate-node-cidrs)`
  }
  const cidrs = own === undefined ? [] : readCiliumNode(own).podCidrs.filter(used)
  const missing = families.filter((family) => !cidrs.some((cidr) => cidrFamily(cidr) === family))
  if (missing.length === 0) return cidrs
  const what = missing.map((family) => `IPv${family}`).join(' and ')
  const why = own === undefined ? undefined : operatorError(own)
  return `CiliumNode ${node.name} has no ${what} pod CIDR (${why === undefined ? 'the operator gives one' : `the operator says: ${why}`})`
}

/**
 * What a node says that has no pod CIDR yet: only that it is there. With addresses the others would count it among those
 * that they speak to, before it can answer.
 */
export function requestPodCidrs({ name, uid }: NodeFacts, bootId: string): OwnAnnouncement {
  return {
    name,
    nodeUid: uid,
    nodeIps: [],
    internalIps: [],
    podCidrs: [],
    bootId,
    publicKey: undefined,
    keyId: 0,
    announcement: undefined,
  }
}
