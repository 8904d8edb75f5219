import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Node, readNode } from '#core/api/node.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import type { Release } from '#io/helm/release.ts'
import type { DaemonSetObject, PodObject } from '../status/objects.ts'
import { applySet, type Values, valueAt } from '../values/set.ts'
import { type ClusterTexts, findClusterCidrs, nodesHavePodCidrs } from './cluster-cidrs.ts'
import { examine, OUR_CHART, OUR_LABEL, type Surroundings } from './foreign.ts'
import { completePool } from './pool.ts'
import { chooseProfile } from './profile.ts'

function node(name: string, podCIDRs: string[] = [], ready = true) {
  const object: Node = {
    metadata: { name },
    spec: { podCIDRs },
    status: { conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
  }
  return readNode(object)
}

function daemonSet(name: string, image: string, labels: Record<string, string> = {}, namespace = 'kube-system') {
  const set: DaemonSetObject = {
    metadata: { name, namespace, labels },
    spec: { selector: {}, template: { spec: { containers: [{ name: 'c', image }] } } },
  }
  return set
}

function pod(name: string, nodeName: string, podIP: string | undefined, hostNetwork = false) {
  const object: PodObject = {
    metadata: { name, namespace: 'default' },
    spec: { nodeName, hostNetwork, containers: [] },
    status: { phase: 'Running', ...(podIP === undefined ? {} : { podIP }) },
  }
  return object
}

function release(status: string, annotations: Record<string, string>): Release {
  const chart = { name: 'cilium', version: '1.14.5', appVersion: '1.14.5', annotations }
  return { name: 'cilium', namespace: 'kube-system', revision: 1, status, chart, values: {} }
}

const EMPTY: Surroundings = { daemonSets: [], release: undefined, nodes: [], pods: [], leftOver: new Set() }
const OURS = { [OUR_LABEL]: '0.1.0' }

test('a new cluster is free: nodes without a network are NotReady, only host-network pods run', () => {
  const nodes = [node('a', ['10.244.0.0/24'], false)]
  const pods = [pod('kube-proxy', 'a', '172.18.0.2', true), pod('coredns', 'a', undefined)]
  assert.equal(examine({ ...EMPTY, nodes, pods }).kind, 'free')
})

for (const [name, image, who] of [
  ['calico-node', 'quay.io/calico/node:v3.30.1', 'Calico'],
  ['renamed', 'docker.io/calico/node:v3.30.1', 'Calico'],
  ['kube-flannel-ds', 'ghcr.io/flannel-io/flannel:v0.27', 'Flannel'],
  ['renamed', 'ghcr.io/flannel-io/flannel', 'Flannel'],
  ['renamed', 'rancher/mirrored-flannelcni-flannel:v0.27', 'Flannel'],
  ['kindnet', 'docker.io/kindest/kindnetd:v2025', 'kindnet'],
  ['weave-net', 'weaveworks/weave-kube:2.8', 'Weave Net'],
  ['aws-node', '602401143452.dkr.ecr.eu-west-1.amazonaws.com/amazon-k8s-cni:v1.20', 'Amazon VPC CNI'],
  ['antrea-agent', 'antrea/antrea-agent-ubuntu:v2', 'Antrea'],
  ['cilium', 'quay.io/cilium/cilium:v1.17.0@sha256:00', 'Cilium'],
  ['my-cilium', 'quay.io/cilium/cilium:v1.17.0', 'Cilium'],
] as const) {
  test(`${name} with ${image} is ${who}, in any namespace`, () => {
    const found = examine({ ...EMPTY, daemonSets: [daemonSet(name, image, {}, 'other')] })
    assert(found.kind === 'foreign')
    assert.match(found.fault.message, new RegExp(`^${who} runs .*other/${name}`))
    assert.equal(found.fault.field, `other/${name}`)
    assert.ok(found.fault.remedy)
  })
}

test('what is no CNI does not matter, whatever its name has in it', () => {
  const daemonSets = [
    daemonSet('kube-proxy', 'registry.k8s.io/kube-proxy:v1.34.4'),
    daemonSet('node-exporter', 'quay.io/prometheus/node-exporter:v1'),
    daemonSet('calico-exporter', 'example.org/calico-exporter:1'),
    daemonSet('operator', 'quay.io/cilium/operator-generic:v1.17.0'),
  ]
  assert.equal(examine({ ...EMPTY, daemonSets }).kind, 'free')
})

test('another chart behind the same release name is foreign, ours is told by its annotation', () => {
  const foreign = examine({ ...EMPTY, release: release('deployed', {}) })
  assert(foreign.kind === 'foreign')
  assert.match(foreign.fault.message, /of another chart \(cilium 1\.14\.5\)/)
  assert.deepEqual(examine({ ...EMPTY, release: release('deployed', { [OUR_CHART]: 'true' }) }), {
    kind: 'ours',
    revision: 1,
    broken: false,
  })
})

test('an installation that never came up may be repeated', () => {
  for (const status of ['failed', 'pending-install']) {
    const found = examine({ ...EMPTY, release: release(status, { [OUR_CHART]: 'true' }) })
    assert(found.kind === 'ours' && found.broken, status)
  }
  const found = examine({ ...EMPTY, daemonSets: [daemonSet('cilium', 'localhost/pellicle:0.1.0', OURS)] })
  assert(found.kind === 'ours' && found.broken)
})

test('pods with addresses on Ready nodes, and nobody who gave them: suspicious; on NotReady nodes not', () => {
  const pods = [pod('web', 'a', '10.244.0.7')]
  const found = examine({ ...EMPTY, nodes: [node('a')], pods })
  assert(found.kind === 'suspicious')
  assert.match(found.fault.message, /node a is Ready and pod default\/web has the address 10\.244\.0\.7/)
  assert.equal(examine({ ...EMPTY, nodes: [node('a', [], false)], pods }).kind, 'free')
})

test('nodes that a bare helm uninstall left closed are ours to install again, another one beside them is not', () => {
  const around = { ...EMPTY, nodes: [node('a'), node('b')], leftOver: new Set(['a']) }
  assert.equal(examine({ ...around, pods: [pod('web', 'a', '10.244.0.7')] }).kind, 'free')
  assert.equal(examine({ ...around, pods: [pod('web', 'b', '10.244.1.7')] }).kind, 'suspicious')
})

const KUBEADM = `apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
networking: {dnsDomain: cluster.local, podSubnet: "10.244.0.0/16,fd00:10:244::/56", serviceSubnet: 10.96.0.0/16}
`
const NONE = { kubeadm: undefined, kubeProxy: undefined }

test('pod prefixes: the value, else kubeadm-config, else kube-proxy', () => {
  const texts = { kubeadm: KUBEADM, kubeProxy: 'clusterCIDR: 10.0.0.0/8\n' }
  assert.deepEqual(findClusterCidrs(['10.1.0.0/16'], texts, []).cidrs, ['10.1.0.0/16'])
  assert.deepEqual(findClusterCidrs([], texts, []), {
    cidrs: ['10.244.0.0/16', 'fd00:10:244::/56'],
    from: 'ConfigMap kubeadm-config',
  })
  assert.deepEqual(findClusterCidrs([], { ...texts, kubeadm: 'networking: {}' }, []).cidrs, ['10.0.0.0/8'])
  assert.deepEqual(findClusterCidrs([], { ...texts, kubeadm: '\t: {' }, []).cidrs, ['10.0.0.0/8'])
})

test('pod prefixes that nobody tells are asked for, with the flag', () => {
  for (const kubeProxy of [undefined, 'clusterCIDR: ""\n', 'mode: nftables\n', 'clusterCIDR: 5\n']) {
    assert.throws(() => findClusterCidrs([], { ...NONE, kubeProxy }, [node('a', ['10.244.0.0/24'])]), {
      code: 'install.cluster-cidrs',
      field: 'pellicle.clusterCIDRs',
      remedy: /--set 'pellicle\.clusterCIDRs=\{.*10\.244\.0\.0\/24/,
    })
  }
})

test('prefixes that leave a node out, or are none, are refused', () => {
  assert.throws(
    () => findClusterCidrs(['10.0.0.0/16'], NONE, [node('a', ['10.244.0.0/24'])]),
    /node a has the pod CIDR/,
  )
  assert.throws(
    () => findClusterCidrs([], { ...NONE, kubeProxy: 'clusterCIDR: 10.0.0\n' }, []),
    /"10\.0\.0", which is no prefix/,
  )
})

const v4 = 'ipam.operator.clusterPoolIPv4PodCIDRList'
const v6 = 'ipam.operator.clusterPoolIPv6PodCIDRList'

function pooled(
  set: string,
  texts: ClusterTexts = NONE,
  taken: readonly string[] = ['172.18.0.2/32'],
  deployed: Values = {},
) {
  const values: Values = {}
  for (const one of ['ipam.mode=cluster-pool', ...set.split(';')]) if (one !== '') applySet(values, one)
  const others = taken.map((text) => ({ cidr: requireCidr(text, 'test'), of: 'node a' }))
  const { values: complete, lines } = completePool(values, texts, others, deployed)
  const at = (path: string) => {
    const value = valueAt(complete, path)
    return Array.isArray(value) ? value.map(String).join(' ') : value
  }
  return { pools: [at(v4), at(v6)], on: [at('ipv4.enabled'), at('ipv6.enabled')], lines }
}

test('cluster-pool: what is given, else what the cluster tells, else the standard', () => {
  const texts = { ...NONE, kubeadm: KUBEADM }
  assert.deepEqual(pooled(`${v4}={10.1.0.0/16,10.3.0.0/16}`, texts), {
    pools: ['10.1.0.0/16 10.3.0.0/16', undefined],
    on: [undefined, undefined],
    lines: [],
  })
  const found = pooled('', texts)
  assert.deepEqual(found.pools, ['10.244.0.0/16', 'fd00:10:244::/56'])
  assert.deepEqual(found.on, [undefined, true])
  assert.match(found.lines.join('\n'), /IPv4 pool of pod CIDRs: 10\.244\.0\.0\/16 \(ConfigMap kubeadm-config\)/)
  assert.deepEqual(pooled('').pools, ['10.0.0.0/8', undefined])
  assert.deepEqual(pooled('ipv6.enabled=true').pools, ['10.0.0.0/8', 'fd00::/104'])
  assert.deepEqual(pooled('ipv4.enabled=false;ipv6.enabled=true', texts).pools, [undefined, 'fd00:10:244::/56'])
  const six = { ...NONE, kubeProxy: 'clusterCIDR: fd00:1::/64\n' }
  assert.deepEqual(pooled('', six), { ...pooled('', six), pools: [undefined, 'fd00:1::/64'], on: [false, true] })
})

test('cluster-pool: a pool that holds a node or a Service is refused, and one that does not fit', () => {
  assert.throws(() => pooled('', NONE, ['10.0.0.7/32']), {
    code: 'install.pool',
    field: v4,
    message: /10\.0\.0\.0\/8 holds 10\.0\.0\.7\/32 of node a/,
    remedy: /--set 'ipam\.operator\.clusterPoolIPv4PodCIDRList=/,
  })
  // a node that came later blocks no upgrade that leaves the pool as it is
  const deployed = { ipam: { operator: { clusterPoolIPv4PodCIDRList: ['10.0.0.0/16'] } } }
  const upgraded = pooled(`${v4}={10.0.0.0/16}`, NONE, ['10.0.0.7/32'], deployed)
  assert.match(upgraded.lines.join(), /10\.0\.0\.0\/16 holds 10\.0\.0\.7\/32 of .*: it is in use already, and stays/)
  assert.throws(
    () => pooled(`${v4}={10.0.0.0/16,10.1.0.0/16}`, NONE, ['10.1.0.7/32'], deployed),
    /10\.1\.0\.0\/16 holds/,
  )
  assert.throws(() => pooled(`${v4}={10.96.0.0/14}`, NONE, ['10.96.0.0/16']), /holds 10\.96\.0\.0\/16/)
  assert.throws(() => pooled(`${v4}={10.1.0.0/25}`), /10\.1\.0\.0\/25 is smaller than one node's \/24/)
  assert.throws(() => pooled(`${v4}={10.1.0.0/16,10.1.2.0/24}`), /10\.1\.2\.0\/24 overlaps 10\.1\.0\.0\/16/)
})

test('IPAM is kubernetes when every node has a pod CIDR', () => {
  assert.equal(nodesHavePodCidrs([node('a', ['10.244.0.0/24']), node('b')]), false)
  assert.equal(nodesHavePodCidrs([node('a', ['10.244.0.0/24'])]), true)
  assert.equal(nodesHavePodCidrs([]), false)
})

test('profiles: releases whose shapes are known, and a word where ours differ', () => {
  assert.deepEqual(chooseProfile('1.14.5'), { release: '1.14.5', notes: { wireguard: [], ipsec: [] } })
  assert.equal(chooseProfile('v1.15').release, '1.15')
  assert.equal(chooseProfile('1.17.0').notes.wireguard.length, 1)
  assert.deepEqual(chooseProfile('1.18').notes.ipsec, [])
  assert.equal(chooseProfile('1.20.0-rc.1').release, '1.20.0-rc.1')
})
