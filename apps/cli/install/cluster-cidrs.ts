import { parse } from 'yaml'
import type { NodeFacts } from '#core/api/node.ts'
import { Fault } from '#core/fault/fault.ts'
import { type Cidr, cidrFamily, containsCidr, parseCidr } from '#core/ip/cidr.ts'

/** The texts of the two ConfigMaps in kube-system that tell a cluster's pod prefixes; undefined where there is none. */
export interface ClusterTexts {
  /** `kubeadm-config`, key `ClusterConfiguration` */
  readonly kubeadm: string | undefined
  /** `kube-proxy`, key `config.conf` */
  readonly kubeProxy: string | undefined
}

export interface ClusterCidrs {
  readonly cidrs: readonly Cidr[]
  /** For the line that tells it. */
  readonly from: string
}

/**
 * Every prefix that pods may ever get. A node's own pod CIDR is not enough: what a later node gets would leave by the
 * default route until its peers have seen it, so it must be known before.
 * @throws Fault `install.cluster-cidrs` when nobody says it, or what they say does not hold the nodes' pod CIDRs
 */
export function findClusterCidrs(
  given: readonly string[],
  texts: ClusterTexts,
  nodes: readonly NodeFacts[],
): ClusterCidrs {
  const found = read(given, 'pellicle.clusterCIDRs') ?? toldCidrs(texts)
  if (found === undefined) {
    throw fault(
      "the cluster's pod prefixes are not known: neither kubeadm-config nor kube-proxy in kube-system tells them",
      remedyFor(nodes),
    )
  }
  for (const node of nodes) {
    const outside = node.podCidrs.find((cidr) => !found.cidrs.some((whole) => containsCidr(whole, cidr)))
    if (outside !== undefined) {
      throw fault(
        `node ${node.name} has the pod CIDR ${outside}, which is in none of ${found.cidrs.join(', ')} (${found.from})`,
        remedyFor(nodes),
      )
    }
  }
  return found
}

/** What the cluster itself says; undefined where it says nothing. */
export function toldCidrs(texts: ClusterTexts): ClusterCidrs | undefined {
  return (
    read(split(field(texts.kubeadm, ['networking', 'podSubnet'])), 'ConfigMap kubeadm-config') ??
    read(split(field(texts.kubeProxy, ['clusterCIDR'])), 'ConfigMap kube-proxy')
  )
}

/** Prefixes of Services, where kubeadm tells them. */
export function serviceSubnets(texts: ClusterTexts): readonly string[] {
  return split(field(texts.kubeadm, ['networking', 'serviceSubnet']))
}

/** True when every node has a pod CIDR: then they are given by Kubernetes itself. */
export function nodesHavePodCidrs(nodes: readonly NodeFacts[]): boolean {
  return nodes.length > 0 && nodes.every((node) => node.podCidrs.length > 0)
}

export function hasFamily(cidrs: readonly Cidr[], family: 4 | 6): boolean {
  return cidrs.some((cidr) => cidrFamily(cidr) === family)
}

function read(texts: readonly string[], from: string): ClusterCidrs | undefined {
  if (texts.length === 0) return undefined
  const cidrs = texts.map((text) => {
    const cidr = parseCidr(text)
    if (cidr === undefined) throw fault(`${from} says "${text}", which is no prefix such as 10.244.0.0/16`, FLAG)
    return cidr
  })
  return { cidrs, from }
}

function split(value: string | undefined): string[] {
  return (value ?? '').split(',').flatMap((part) => (part.trim() === '' ? [] : [part.trim()]))
}

function field(text: string | undefined, path: readonly string[]): string | undefined {
  if (text === undefined) return undefined
  let at: unknown
  try {
    at = parse(text)
  } catch {
    return undefined
  }
  for (const step of path) {
    at = typeof at === 'object' && at !== null ? (at as Readonly<Record<string, unknown>>)[step] : undefined
  }
  return typeof at === 'string' ? at : undefined
}

const FLAG = "Give them: --set 'pellicle.clusterCIDRs={10.244.0.0/16}'"

function remedyFor(nodes: readonly NodeFacts[]): string {
  const known = nodes.flatMap((node) => node.podCidrs)
  return known.length === 0
    ? FLAG
    : `${FLAG}, with a prefix that holds ${known.slice(0, 3).join(', ')} and what later nodes get`
}

function fault(sentence: string, remedy: string): Fault {
  return new Fault('install.cluster-cidrs', sentence, { field: 'pellicle.clusterCIDRs', remedy })
}
