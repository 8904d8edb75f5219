import type { CiliumNode } from '#core/api/cilium-node.ts'
import type { ClusterObjects, DaemonSetObject, PodObject } from './objects.ts'

/** Two nodes, closed, as a lab's API answered for them (fields that nothing reads are left out). For tests. */

const IMAGE = 'localhost/pellicle:0.1.0'

export const REPORTED = { cilium: { state: 'Ok' as const }, encryption: { mode: 'Wireguard' as const } }

export function healthy(): ClusterObjects {
  return {
    namespace: 'kube-system',
    daemonSets: [daemonSet('cilium'), daemonSet('pellicle-keeper')],
    deployments: [
      {
        metadata: { name: 'cilium-operator', namespace: 'kube-system', generation: 1 },
        spec: { replicas: 1, selector: {}, template: {} },
        status: { observedGeneration: 1, replicas: 1, updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1 },
      },
    ],
    pods: [
      agentPod('a'),
      agentPod('b'),
      running('pellicle-keeper-a', 'a', { 'k8s-app': 'pellicle-keeper' }, 'keeper'),
      running('pellicle-keeper-b', 'b', { 'k8s-app': 'pellicle-keeper' }, 'keeper'),
      running('cilium-operator-x', 'a', { name: 'cilium-operator', 'io.cilium/app': 'operator' }, 'cilium-operator'),
      workload('pod-worker', 'a', '10.244.0.8'),
      workload('pod-worker2', 'b', '10.244.1.163'),
    ],
    ciliumNodes: [ciliumNode('a', 0), ciliumNode('b', 1)],
    config: { metadata: { name: 'cilium-config' }, data: { 'enable-wireguard': 'true' } },
    keys: undefined,
    agents: new Map([
      ['cilium-a', { ok: true, status: REPORTED }],
      ['cilium-b', { ok: true, status: REPORTED }],
    ]),
    chartVersion: '0.1.0',
    collectionErrors: [],
  }
}

export function agentPod(node: string): PodObject {
  return running(`cilium-${node}`, node, { 'k8s-app': 'cilium' }, 'cilium-agent')
}

function daemonSet(name: string): DaemonSetObject {
  return {
    metadata: { name, namespace: 'kube-system', generation: 1 },
    status: {
      observedGeneration: 1,
      desiredNumberScheduled: 2,
      currentNumberScheduled: 2,
      updatedNumberScheduled: 2,
      numberReady: 2,
      numberAvailable: 2,
      numberMisscheduled: 0,
    },
  }
}

function running(name: string, node: string, labels: Record<string, string>, container: string): PodObject {
  return {
    metadata: { name, namespace: 'kube-system', labels },
    spec: { nodeName: node, hostNetwork: true, containers: [{ name: container, image: IMAGE }] },
    status: {
      phase: 'Running',
      conditions: [{ type: 'Ready', status: 'True' }],
      containerStatuses: [
        { name: container, image: IMAGE, imageID: '', ready: true, restartCount: 0, state: { running: {} } },
      ],
    },
  }
}

function workload(name: string, node: string, podIP: string): PodObject {
  return {
    metadata: { name, namespace: 'default' },
    spec: { nodeName: node, containers: [] },
    status: { phase: 'Running', podIP },
  }
}

function ciliumNode(name: string, index: number): CiliumNode {
  return {
    metadata: {
      name,
      annotations: {
        'pellicle.io/encryption-level': '3.1',
        'network.cilium.io/wg-pub-key': Buffer.alloc(32, index + 1).toString('base64'),
      },
    },
    spec: {
      addresses: [{ type: 'InternalIP', ip: `172.18.0.${index + 2}` }],
      ipam: { podCIDRs: [`10.244.${index}.0/24`] },
    },
  }
}
