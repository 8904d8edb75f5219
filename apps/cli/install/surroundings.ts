import { NODES, type NodeFacts, readNode } from '#core/api/node.ts'
import { CONFIG_MAPS, DAEMON_SETS, PODS } from '#core/api/resources.ts'
import { currentRelease } from '#io/helm/release.ts'
import type { KubeClient } from '#io/kube/client.ts'
import type { ClusterTexts } from './cluster-cidrs.ts'
import type { Surroundings } from './foreign.ts'

interface Where {
  readonly namespace: string
  readonly release: string
  readonly signal: AbortSignal
}

/** Looks around in the whole cluster; changes nothing. */
export async function lookAround(client: KubeClient, { namespace, release, signal }: Where): Promise<Surroundings> {
  const [daemonSets, pods, nodes, found] = await Promise.all([
    client.listAll(DAEMON_SETS, { allNamespaces: true, signal }),
    client.listAll(PODS, { allNamespaces: true, signal }),
    readNodes(client, signal),
    currentRelease(client, release, { namespace, signal }),
  ])
  return { daemonSets: daemonSets.items, pods: pods.items, nodes, release: found }
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
