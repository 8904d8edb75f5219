import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { requestPodCidrs } from '#apps/agent/pod-cidrs.ts'
import { KubeRegistry } from '#apps/agent/publisher.ts'
import { OperatorMetrics } from '#apps/operator/metrics.ts'
import { watchCluster } from '#apps/operator/watcher.ts'
import { announceNode, CILIUM_NODES, operatorError } from '#core/api/cilium-node.ts'
import { type AgentConfig, parseConfig } from '#core/api/config.ts'
import { NODES, type NodeFacts, readNode } from '#core/api/node.ts'
import type { KubeObject, Resource } from '#core/api/object.ts'
import { PODS, SECRETS } from '#core/api/resources.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { hasCode } from '#io/kube/errors.ts'
import { SILENT } from '#io/telemetry/log.ts'
import { apiSuite, until } from '#test/kit/api-suite.ts'
import type { ApiServer } from '#test/kit/apiserver.ts'
import { applyManifests } from '#test/kit/chart-manifests.ts'

/** IPAM mode cluster-pool against a real kube-apiserver, operator and agents with the rights of the chart. */
const NAMESPACE = 'kube-system'
const SERVICE_ACCOUNTS: Resource<KubeObject> = { ...SECRETS, kind: 'ServiceAccount', plural: 'serviceaccounts' }
let server: ApiServer
let client: KubeClient
const real = apiSuite((made) => {
  ;({ server, client } = made)
})

let rights: Promise<void> | undefined

async function giveRights(): Promise<void> {
  for (const path of [
    'cilium-operator/rbac.yaml',
    'cilium-agent/clusterrole.yaml',
    'cilium-agent/admission.yaml',
    'cilium-agent/admission-pod-cidrs.yaml',
    'cilium-operator/admission-pod-cidrs.yaml',
  ]) {
    await applyManifests(client, NAMESPACE, path)
  }
}

async function serviceAccount(name: string, node?: string): Promise<KubeClient> {
  await (rights ??= giveRights())
  return await server.as(
    `system:serviceaccount:${NAMESPACE}:${name}`,
    ['system:serviceaccounts', `system:serviceaccounts:${NAMESPACE}`, 'system:authenticated'],
    node === undefined ? {} : { 'authentication.kubernetes.io/node-name': [node] },
  )
}

function configOf(v4: string, more: Readonly<Record<string, string>> = {}): AgentConfig {
  const parsed = parseConfig({ ipam: 'cluster-pool', 'cluster-pool-ipv4-cidr': v4, ...more })
  assert(parsed.ok)
  return parsed.value.config
}

/** A new one, that knows nothing but what the API server has; ended with the test, or before. */
async function operate(t: TestContext, config: AgentConfig) {
  const stop = new AbortController()
  const metrics = new OperatorMetrics()
  const operator = await serviceAccount('cilium-operator')
  const options = { client: operator, namespace: NAMESPACE, config, log: SILENT, metrics, periodMs: 50, graceMs: 200 }
  const running = watchCluster(options, stop.signal)
  const end = async () => {
    stop.abort()
    await running
  }
  t.after(end)
  return { end, metrics: async () => await metrics.registry.metrics() }
}

async function node(name: string): Promise<NodeFacts> {
  return readNode(await client.create(NODES, { metadata: { name } }))
}

/** Undefined: none yet. */
async function podCidrsOf(name: string): Promise<string | undefined> {
  const cidrs = (await client.find(CILIUM_NODES, name))?.spec.ipam?.podCIDRs ?? []
  return cidrs.length === 0 ? undefined : cidrs.join(' ')
}

const errorOf = async (name: string) => {
  const found = await client.find(CILIUM_NODES, name)
  return found === undefined ? undefined : operatorError(found)
}

async function request(facts: NodeFacts): Promise<void> {
  await client.create(CILIUM_NODES, announceNode(requestPodCidrs(facts, 'boot')))
}

async function byHand(name: string, podCidr: string): Promise<void> {
  const facts = await node(name)
  const own = { ...requestPodCidrs(facts, 'boot'), podCidrs: [requireCidr(podCidr, 'test')] }
  await client.create(CILIUM_NODES, announceNode(own))
}

async function remove(...names: readonly string[]): Promise<void> {
  for (const name of names) {
    await client.delete(NODES, name)
    await client.delete(CILIUM_NODES, name)
  }
}

real('an agent asks, the operator gives, and no agent can write its own', async (t) => {
  const facts = await node('a1')
  const registry = new KubeRegistry(await serviceAccount('cilium', 'a1'))
  const own = { ...requestPodCidrs(facts, 'boot'), podCidrs: [requireCidr('10.50.9.0/24', 'test')] }
  // the policy takes effect a moment after it was made
  await until(async () => {
    try {
      await registry.announce(own, { podCidrs: true })
    } catch (error) {
      if (hasCode(error, 'kube.forbidden') && String(error).includes('the operator alone writes')) return true
    }
    await client.delete(CILIUM_NODES, 'a1')
    return false
  })
  await registry.announce(own, { podCidrs: false })
  assert.equal(await podCidrsOf('a1'), undefined)
  const ipv6 = { 'enable-ipv6': 'true', 'cluster-pool-ipv6-cidr': 'fd00::/104' }
  const { metrics } = await operate(t, configOf('10.50.0.0/16', ipv6))
  await until(async () => (await podCidrsOf('a1')) === '10.50.0.0/24 fd00::/120')
  const nodeIps = [requireIp('172.18.0.9', 'test')]
  await registry.announce({ ...own, nodeIps, podCidrs: [requireCidr('10.50.0.0/24', 'test')] }, { podCidrs: false })
  const said = await client.get(CILIUM_NODES, 'a1')
  assert.deepEqual(said.spec.ipam?.podCIDRs, ['10.50.0.0/24', 'fd00::/120'], 'what the operator wrote stays')
  assert.equal(said.spec.addresses?.length, 1)
  const steal = { spec: { ipam: { podCIDRs: ['10.50.0.0/24', '10.50.1.0/24'] } } }
  await assert.rejects((await serviceAccount('cilium', 'a1')).patch(CILIUM_NODES, 'a1', steal), (error) =>
    hasCode(error, 'kube.forbidden'),
  )
  await until(async () => /pellicle_operator_pod_cidrs\{family="IPv4"\} 1\n/.test(await metrics()))
  assert.match(await metrics(), /pellicle_operator_pod_cidrs_capacity\{family="IPv4"\} 256\n/)
  await remove('a1')
})

real('the operator writes pod CIDRs on a CiliumNode, and no key or address', async () => {
  const facts = await node('f1')
  await client.create(CILIUM_NODES, announceNode({ ...requestPodCidrs(facts, 'boot'), keyId: 3 }))
  const operator = await serviceAccount('cilium-operator')
  const mayNot = async (patch: unknown) => {
    try {
      await operator.patch(CILIUM_NODES, 'f1', patch)
      return false
    } catch (error) {
      return hasCode(error, 'kube.forbidden') && String(error).includes('only spec.ipam')
    }
  }
  // the policy takes effect a moment after it was made
  await until(async () => await mayNot({ metadata: { annotations: { 'network.cilium.io/wg-pub-key': 'forged' } } }))
  assert.ok(await mayNot({ spec: { addresses: [{ type: 'InternalIP', ip: '172.18.0.66' }] } }))
  assert.ok(await mayNot({ spec: { encryption: { key: 4 } } }))
  await operator.patch(CILIUM_NODES, 'f1', { spec: { ipam: { podCIDRs: ['10.55.0.0/24'] } } })
  assert.equal(await podCidrsOf('f1'), '10.55.0.0/24')
  await remove('f1')
})

real('a node that lost its CiliumNode gets what its running pods have addresses of', async (t) => {
  const late = await node('e1')
  const scope = { namespace: 'default' }
  await client.apply(SERVICE_ACCOUNTS, { metadata: { name: 'default', ...scope } }, { fieldManager: 'test' })
  const spec = { nodeName: 'e1', containers: [{ name: 'c', image: 'none' }] }
  await client.create(PODS, { metadata: { name: 'e', ...scope }, spec }, scope)
  const status = { podIP: '10.54.0.7', podIPs: [{ ip: '10.54.0.7' }] }
  await client.patch(PODS, 'e', { status }, { ...scope, subresource: 'status' })
  await operate(t, configOf('10.54.0.0/16'))
  await request(await node('e2'))
  await until(async () => (await podCidrsOf('e2')) === '10.54.1.0/24')
  await request(late)
  await until(async () => (await podCidrsOf('e1')) === '10.54.0.0/24')
  await remove('e1', 'e2')
})

real('an operator that starts again goes on from what the CiliumNodes say', async (t) => {
  const first = await operate(t, configOf('10.51.0.0/16'))
  for (const name of ['b1', 'b2']) await request(await node(name))
  await until(async () => (await podCidrsOf('b1')) !== undefined && (await podCidrsOf('b2')) !== undefined)
  await first.end()
  await byHand('b3', '10.51.7.0/24')
  const before = await client.listAll(CILIUM_NODES)
  await operate(t, configOf('10.51.0.0/16'))
  await request(await node('b4'))
  await until(async () => (await podCidrsOf('b4')) === '10.51.8.0/24')
  assert.deepEqual(new Set([await podCidrsOf('b1'), await podCidrsOf('b2')]), new Set(['10.51.0.0/24', '10.51.1.0/24']))
  for (const { metadata } of before.items) {
    const now = await client.get(CILIUM_NODES, metadata.name)
    assert.equal(now.metadata.resourceVersion, metadata.resourceVersion, 'nothing is written anew')
  }
  await remove('b1', 'b2', 'b3', 'b4')
})

real(
  'a used-up pool is told on the CiliumNode and by an Event; what a gone node had is given to the next',
  async (t) => {
    await operate(t, configOf('10.52.0.0/25', { 'cluster-pool-ipv4-mask-size': '26' }))
    for (const name of ['c1', 'c2']) await request(await node(name))
    await until(async () => (await podCidrsOf('c1')) !== undefined && (await podCidrsOf('c2')) !== undefined)
    await request(await node('c3'))
    await until(async () => {
      const error = (await errorOf('c3')) ?? ''
      return /the pool 10\.52\.0\.0\/25 \(cluster-pool-ipv4-cidr\) is used up.*clusterPoolIPv4PodCIDRList/.test(error)
    })
    await until(async () => {
      const path = '/apis/events.k8s.io/v1/namespaces/default/events'
      const { items } = await client.request<{ items: { reason: string; regarding: { name: string } }[] }>({
        method: 'GET',
        path,
      })
      return items.some(({ reason, regarding }) => reason === 'PodCIDRPoolUsedUp' && regarding.name === 'c3')
    })
    const freed = await podCidrsOf('c1')
    await client.delete(NODES, 'c1')
    await until(async () => (await podCidrsOf('c3')) === freed)
    await until(async () => (await errorOf('c3')) === undefined)
    await remove('c2', 'c3')
  },
)

real(
  'of two nodes with the same addresses the younger is told; one outside of the pool too, and both keep them',
  async (t) => {
    await byHand('d1', '10.53.0.0/24')
    await byHand('d3', '10.99.0.0/24')
    // creationTimestamp counts seconds: of one second the name decides
    await byHand('d2', '10.53.0.128/25')
    const { end } = await operate(t, configOf('10.53.0.0/16'))
    await until(async () =>
      /10\.53\.0\.128\/25 of node d2 overlaps 10\.53\.0\.0\/24 of node d1/.test((await errorOf('d2')) ?? ''),
    )
    await until(async () =>
      /10\.99\.0\.0\/24 of node d3 is in no prefix.*10\.53\.0\.0\/16/.test((await errorOf('d3')) ?? ''),
    )
    assert.equal(await errorOf('d1'), undefined)
    assert.equal(await podCidrsOf('d2'), '10.53.0.128/25')
    // the element is put back, as the error says; and the younger one is given another
    await end()
    await client.patch(CILIUM_NODES, 'd2', { spec: { ipam: { podCIDRs: null } } })
    await operate(t, configOf('10.53.0.0/16 10.99.0.0/16'))
    await until(async () => (await podCidrsOf('d2')) === '10.53.1.0/24')
    await until(async () => (await errorOf('d2')) === undefined && (await errorOf('d3')) === undefined)
  },
)
