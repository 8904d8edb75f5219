import { readCiliumNode } from '#core/api/cilium-node.ts'
import { parseIp } from '#core/ip/address.ts'
import { type Cidr, containsIp } from '#core/ip/cidr.ts'
import type { ClusterObjects } from './objects.ts'

/**
 * Pods that have a network of their own and have not ended, and how many of them are ours: their address lies in a pod
 * CIDR that the agent of their node has published. (Cilium counts CiliumEndpoints; there are none here.)
 */
export function managedPods(objects: ClusterObjects): { readonly all: number; readonly by_cilium: number } {
  const podCidrs = new Map<string, readonly Cidr[]>()
  for (const node of objects.ciliumNodes) podCidrs.set(node.metadata.name, readCiliumNode(node).podCidrs)
  let all = 0
  let managed = 0
  for (const pod of objects.pods) {
    const phase = pod.status?.phase
    if (pod.spec?.hostNetwork === true || phase === 'Succeeded' || phase === 'Failed') continue
    all++
    const ip = parseIp(pod.status?.podIP ?? '')
    const cidrs = podCidrs.get(pod.spec?.nodeName ?? '') ?? []
    if (ip !== undefined && cidrs.some((cidr) => containsIp(cidr, ip))) managed++
  }
  return { all, by_cilium: managed }
}
