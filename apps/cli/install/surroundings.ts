import { CILIUM_NODES } from '#core/api/cilium-node.ts'
import { ANNOTATION, CLEANUP } from '#core/api/names.ts'
import { NODES, type NodeFacts, readNode } from '#core/api/node.ts'
import { CONFIG_MAPS, CRDS, DAEMON_SETS, PODS } from '#core/api/resources.ts'
import { currentRelease } from '#io/helm/release.ts'
import type { KubeClient } from '#io/kube/client.ts'
import type { ClusterTexts } from './cluster-cidrs.ts'
import { OUR_LABEL, type Surroundings } from './foreign.ts'

export const CILIUM_NODE_CRD = 'ciliumnodes.cilium.io'

interface Where {
  readonly namespace: string
  readonly release: string
  readonly signal: AbortSignal
}

/** Looks around in the whole cluster; changes nothing. */
export async function lookAround(client: KubeClient, { namespace, release, signal }: Where): Promise<Surroundings> {
  const [daemonSets, pods, nodes, found, leftOver] = await Promise.all([
    client.listAll(DAEMON_SETS, { allNamespaces: true, signal }),
    client.listAll(PODS, { allNamespaces: true, signal }),
    readNodes(client, signal),
    currentRelease(client, release, { namespace, signal }),
    readLeftOver(client, signal),
  ])
  return { daemonSets: daemonSets.items, pods: pods.items, nodes, release: found, leftOver }
}

/** Helm keeps the CRD, and with it the CiliumNodes: those that have not said to be clean. */
async function readLeftOver(client: KubeClient, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const crd = await client.find(CRDS, CILIUM_NODE_CRD, { signal })
  if (crd?.metadata.labels?.[OUR_LABEL] === undefined) return new Set()
  const { items } = await client.listAll(CILIUM_NODES, { signal })
  const unclean = items.filter(({ metadata }) => metadata.annotations?.[ANNOTATION.cleanup] !== CLEANUP.done)
  return new Set(unclean.map(({ metadata }) => metadata.name))
}

export async function readNodes(client: KubeClient, signal: AbortSignal): Promise<NodeFacts[]> {
  const { items } = await client.listAll(NODES, { signal })
  return items.map(readNode)
}

export async function readClusterTexts(client: KubeClient, signal: AbortSignal): Promise<ClusterTexts> {
  const scope = { namespace: 'kube-system', signal }
  const [kubeadm, kubeProxy] = await Promise.all([
    client.find(CONFIG_MAPS, 'kubeadm-config', scope),
    client.find(CONFIG_MAPS, 'kube-proxy', scope),
  ])
  return { kubeadm: kubeadm?.data?.['ClusterConfiguration'], kubeProxy: kubeProxy?.data?.['config.conf'] }
}
