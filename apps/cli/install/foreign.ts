import type { NodeFacts } from '#core/api/node.ts'
import { Fault } from '#core/fault/fault.ts'
import type { Release } from '#io/helm/release.ts'
import type { DaemonSetObject, PodObject } from '../status/objects.ts'

/** What there is before an installation, of all namespaces. */
export interface Surroundings {
  readonly daemonSets: readonly DaemonSetObject[]
  /** Of our name, in our namespace. */
  readonly release: Release | undefined
  readonly nodes: readonly NodeFacts[]
  readonly pods: readonly PodObject[]
  /** Nodes that our CiliumNodes still tell of: after a bare `helm uninstall` they keep our CNI configuration, closed. */
  readonly leftOver: ReadonlySet<string>
}

export const OUR_CHART = 'pellicle.io/chart'
export const OUR_LABEL = 'pellicle.io/version'

/**
 * Who else makes pods' networks: by the name of the DaemonSet, or by its image where names are free. A CNI
 * configuration on a node cannot be seen from outside; what runs it can.
 */
const OTHERS: readonly { readonly name: string; readonly sets: readonly string[]; readonly image: RegExp }[] = [
  { name: 'Calico', sets: ['calico-node', 'canal'], image: /(^|\/)calico\/node(?=[:@]|$)/ },
  {
    name: 'Flannel',
    sets: ['kube-flannel-ds', 'kube-flannel'],
    image: /(^|\/)(mirrored-)?(flannelcni-)?flannel(?=[:@]|$)/,
  },
  { name: 'Weave Net', sets: ['weave-net'], image: /weave-kube(?=[:@]|$)/ },
  { name: 'kindnet', sets: ['kindnet'], image: /kindnetd(?=[:@]|$)/ },
  { name: 'Antrea', sets: ['antrea-agent'], image: /antrea-agent[^/]*(?=[:@]|$)/ },
  { name: 'kube-router', sets: ['kube-router'], image: /(^|\/)kube-router(?=[:@]|$)/ },
  { name: 'OVN-Kubernetes', sets: ['ovnkube-node', 'ovnkube-master'], image: /ovn-kube[^/]*(?=[:@]|$)/ },
  { name: 'Kube-OVN', sets: ['kube-ovn-cni', 'ovs-ovn'], image: /(^|\/)kube-ovn(?=[:@]|$)/ },
  { name: 'Amazon VPC CNI', sets: ['aws-node'], image: /amazon-k8s-cni(?=[:@]|$)/ },
  { name: 'Azure CNI', sets: ['azure-cns', 'azure-cni'], image: /azure-cns(?=[:@]|$)/ },
  { name: 'Multus', sets: ['kube-multus-ds', 'multus'], image: /(^|\/)multus(-cni)?(?=[:@]|$)/ },
  { name: 'Romana', sets: ['romana-agent'], image: /romana\/agent(?=[:@]|$)/ },
  { name: 'Cilium', sets: ['cilium'], image: /(^|\/)cilium\/cilium(-ci|-dev)?(?=[:@]|$)/ },
]

export type Finding =
  /** Nobody is here. */
  | { readonly kind: 'free' }
  /** An installation of ours; `broken` when its release never came to be deployed. */
  | { readonly kind: 'ours'; readonly revision: number | undefined; readonly broken: boolean }
  | { readonly kind: 'foreign'; readonly fault: Fault }
  /**
   * Pods have addresses on nodes that are Ready, and nobody who gave them is seen. It may be a CNI that runs outside
   * the cluster, or our own uninstall a few seconds ago, before the kubelets noticed.
   */
  | { readonly kind: 'suspicious'; readonly fault: Fault }

export function examine(around: Surroundings): Finding {
  for (const set of around.daemonSets) {
    if (set.metadata.labels?.[OUR_LABEL] !== undefined) continue
    const images = (set.spec?.template.spec?.containers ?? []).map((container) => container.image ?? '')
    const other = OTHERS.find(
      ({ sets, image }) => sets.includes(set.metadata.name) || images.some((name) => image.test(name)),
    )
    if (other === undefined) continue
    const where = `${set.metadata.namespace ?? ''}/${set.metadata.name}`
    return foreignFinding(
      `${other.name} runs in this cluster already (DaemonSet ${where}${images[0] === undefined ? '' : `, image ${images[0]}`})`,
      where,
      `Remove ${other.name} first: two of them would give pods two networks`,
    )
  }
  const { release } = around
  if (release !== undefined && release.chart.annotations[OUR_CHART] === undefined) {
    return foreignFinding(
      `the Helm release ${release.namespace}/${release.name} is of another chart (${release.chart.name} ${release.chart.version})`,
      `release/${release.name}`,
      `Remove it first: helm uninstall ${release.name} -n ${release.namespace}`,
    )
  }
  if (release !== undefined || around.daemonSets.some((set) => set.metadata.labels?.[OUR_LABEL] !== undefined)) {
    const broken = release === undefined || release.status === 'failed' || release.status.startsWith('pending')
    return { kind: 'ours', revision: release?.revision, broken }
  }
  const foreign = around.nodes.filter((node) => node.ready && !around.leftOver.has(node.name))
  const ready = new Set(foreign.map((node) => node.name))
  const pod = around.pods.find(
    ({ spec, status }) =>
      spec?.hostNetwork !== true &&
      status?.phase === 'Running' &&
      (status.podIP ?? '') !== '' &&
      ready.has(spec?.nodeName ?? ''),
  )
  if (pod === undefined) return { kind: 'free' }
  return {
    kind: 'suspicious',
    fault: new Fault(
      'install.foreign',
      `another CNI serves this cluster: node ${pod.spec?.nodeName ?? ''} is Ready and pod ` +
        `${pod.metadata.namespace ?? ''}/${pod.metadata.name} has the address ${pod.status?.podIP ?? ''}`,
      {
        field: `node/${pod.spec?.nodeName ?? ''}`,
        remedy: 'Remove that CNI and its files in /etc/cni/net.d of every node first',
      },
    ),
  }
}

function foreignFinding(sentence: string, field: string, remedy: string): Finding {
  return { kind: 'foreign', fault: new Fault('install.foreign', sentence, { field, remedy }) }
}
