import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { parseAllDocuments } from 'yaml'
import { OperatorMetrics } from '#apps/operator/metrics.ts'
import { watchCluster } from '#apps/operator/watcher.ts'
import { announceNode, CILIUM_NODES, type CiliumNode } from '#core/api/cilium-node.ts'
import { parseConfig } from '#core/api/config.ts'
import { NODES } from '#core/api/node.ts'
import type { KubeObject, Resource } from '#core/api/object.ts'
import { parseIp } from '#core/ip/address.ts'
import { parseCidr } from '#core/ip/cidr.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { hasCode } from '#io/kube/errors.ts'
import { SILENT } from '#io/telemetry/log.ts'
import { apiSuite, until } from '#test/kit/api-suite.ts'
import type { ApiServer } from '#test/kit/apiserver.ts'

/** The operator, as a program and in this process, against a real kube-apiserver. */
const root = join(import.meta.dirname, '../..')
let server: ApiServer
let client: KubeClient
let configDir: string
const real = apiSuite((made) => {
  ;({ server, client } = made)
  configDir = join(server.folder, 'config')
  mkdirSync(configDir)
  writeFileSync(join(configDir, 'pellicle-cluster-cidrs'), '10.244.0.0/16')
  writeFileSync(join(configDir, 'ipam'), 'kubernetes')
})

function announced(name: string, podCidr: string, more: Partial<Parameters<typeof announceNode>[0]> = {}): CiliumNode {
  return announceNode({
    name,
    nodeUid: '11111111-1111-1111-1111-111111111111',
    nodeIps: [parseIp('172.18.0.3')!],
    internalIps: [],
    podCidrs: [parseCidr(podCidr)!],
    bootId: 'b',
    publicKey: undefined,
    keyId: 0,
    announcement: { level: 0, epoch: 0 },
    ...more,
  })
}

interface Program {
  readonly child: ChildProcess
  readonly text: () => string
  readonly health: () => string
}

function startOperator(t: TestContext, ...args: readonly string[]): Program {
  const flags = ['--config-dir', configDir, '--kubeconfig', server.kubeconfig, '--health-address', '127.0.0.1:0']
  const child = spawn(process.execPath, [join(root, 'apps/operator/main.ts'), ...flags, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
    })
  }
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    // gently: it gives its lease back, and the next test need not wait for it
    child.kill('SIGTERM')
    await once(child, 'exit')
  })
  return { child, text: () => text, health: () => /health=([0-9.:]+)/.exec(text)?.[1] ?? '' }
}

real('it tells overlapping pod CIDRs and equal keys by log, Event and metric, and that they are gone', async (t) => {
  const publicKey = publicKeyOf(new Uint8Array(32).fill(5))
  await client.create(NODES, {
    metadata: { name: 'o1' },
    spec: { podCIDRs: ['10.244.8.0/24'], podCIDR: '10.244.8.0/24' },
  })
  await client.create(NODES, {
    metadata: { name: 'o2' },
    spec: { podCIDRs: ['10.244.9.0/24'], podCIDR: '10.244.9.0/24' },
  })
  await client.create(CILIUM_NODES, announced('o1', '10.244.8.0/24', { publicKey }))
  await client.create(CILIUM_NODES, announced('o2', '10.244.8.128/25', { publicKey }))
  const operator = startOperator(t)
  await until(
    () =>
      operator.text().includes('reason=OverlappingPodCIDR') && operator.text().includes('reason=DuplicatePublicKey'),
  )
  assert.match(
    operator.text(),
    /level=warning msg="nodes o1 \(10.244.8.0\/24\) and o2 \(10.244.8.128\/25\) have pod addresses in common/,
  )
  const events = async () =>
    (
      await client.request<{ items: { reason: string; regarding: { name: string; uid?: string } }[] }>({
        method: 'GET',
        path: '/apis/events.k8s.io/v1/namespaces/default/events',
      })
    ).items
  await until(async () =>
    (await events()).some(({ reason, regarding }) => reason === 'OverlappingPodCIDR' && regarding.name === 'o2'),
  )
  const metrics = await (await fetch(`http://${operator.health()}/metrics`)).text()
  assert.match(metrics, /pellicle_operator_troubles\{reason="DuplicatePublicKey"\} 1/)
  assert.match(metrics, /pellicle_operator_leader 1/)
  assert.equal(await (await fetch(`http://${operator.health()}/healthz`)).text(), 'ok: leading\n')
  await client.patch(CILIUM_NODES, 'o2', { spec: { ipam: { podCIDRs: ['10.244.9.0/24'] } } })
  await until(() => /msg=resolved .*reason=OverlappingPodCIDR/.test(operator.text()))
  operator.child.kill('SIGTERM')
  const [code] = (await once(operator.child, 'exit')) as [number]
  assert.equal(code, 0)
})

real('it lives through an API server that is away, and goes on', async (t) => {
  const operator = startOperator(t)
  await until(() => operator.text().includes('msg=leads'))
  await server.kill()
  await until(() => operator.text().includes('level=warning'))
  assert.equal((await fetch(`http://${operator.health()}/healthz`)).status, 200)
  await server.start()
  await client.create(NODES, {
    metadata: { name: 'outside' },
    spec: { podCIDRs: ['192.168.0.0/24'], podCIDR: '192.168.0.0/24' },
  })
  await until(() => operator.text().includes('reason=PodCIDROutsideCluster'))
  assert.equal(operator.child.exitCode, null)
})

real('of two one leads; when it ends the other leads at once', async (t) => {
  const one = startOperator(t)
  await until(() => one.text().includes('msg=leads'))
  const two = startOperator(t)
  await until(() => two.text().includes('msg="another operator leads"'))
  assert.ok(!two.text().includes('msg=leads'))
  one.child.kill('SIGTERM')
  await until(() => two.text().includes('msg=leads'))
})

real('a wrong configuration is told by field, and the program ends with 1', async (t) => {
  const folder = join(server.folder, 'wrong')
  mkdirSync(folder)
  writeFileSync(join(folder, 'ipam'), 'eni')
  const operator = startOperator(t, '--config-dir', folder)
  const [code] = (await once(operator.child, 'close')) as [number]
  assert.equal(code, 1)
  assert.match(operator.text(), /level=error.*field=ipam/)
  assert.match(operator.text(), /field=pellicle-cluster-cidrs/)
})

real('it deletes the CiliumNode of a node that is gone, and no other', async () => {
  await client.create(NODES, {
    metadata: { name: 'stays' },
    spec: { podCIDRs: ['10.244.20.0/24'], podCIDR: '10.244.20.0/24' },
  })
  await client.create(CILIUM_NODES, announced('stays', '10.244.20.0/24'))
  await client.create(CILIUM_NODES, announced('gone', '10.244.21.0/24'))
  const parsed = parseConfig({ 'pellicle-cluster-cidrs': '10.244.0.0/16' })
  assert(parsed.ok)
  const stop = new AbortController()
  const metrics = new OperatorMetrics()
  const running = watchCluster(
    { client, namespace: 'kube-system', config: parsed.value.config, log: SILENT, metrics, periodMs: 50, graceMs: 300 },
    stop.signal,
  )
  await until(async () => (await client.find(CILIUM_NODES, 'gone')) === undefined)
  assert.notEqual(await client.find(CILIUM_NODES, 'stays'), undefined)
  assert.match(await metrics.registry.metrics(), /pellicle_operator_deleted_ciliumnodes_total 1/)
  stop.abort()
  await running
})

const POLICIES: Resource<KubeObject> = {
  group: 'admissionregistration.k8s.io',
  version: 'v1',
  kind: 'ValidatingAdmissionPolicy',
  plural: 'validatingadmissionpolicies',
  namespaced: false,
}
const BINDINGS: Resource<KubeObject> = {
  ...POLICIES,
  kind: 'ValidatingAdmissionPolicyBinding',
  plural: 'validatingadmissionpolicybindings',
}
const ROLES: Resource<KubeObject> = {
  group: 'rbac.authorization.k8s.io',
  version: 'v1',
  kind: 'ClusterRole',
  plural: 'clusterroles',
  namespaced: false,
}
const ROLE_BINDINGS: Resource<KubeObject> = { ...ROLES, kind: 'ClusterRoleBinding', plural: 'clusterrolebindings' }

/** The few template expressions of these manifests, without Helm. */
function manifests(path: string): KubeObject[] {
  const text = readFileSync(join(root, 'deploy/chart/templates', path), 'utf8')
    .replaceAll('{{ .Release.Namespace }}', 'kube-system')
    .replaceAll(/^\s*(labels:\s*\n\s*)?\{\{-? include "pellicle.labels".*\}\}\n/gm, '')
    .replaceAll(/\{\{-?[\s\S]*?-?\}\}/g, '')
  return parseAllDocuments(text)
    .map((document) => document.toJS() as KubeObject | null)
    .filter((object) => object !== null)
}

real('an agent may write only the CiliumNode of its own node', async () => {
  const resources = [POLICIES, BINDINGS, ROLES, ROLE_BINDINGS]
  for (const object of [...manifests('cilium-agent/admission.yaml'), ...manifests('cilium-agent/clusterrole.yaml')]) {
    const resource = resources.find(({ kind }) => kind === object.kind)
    assert(resource !== undefined, object.kind ?? 'no kind')
    await client.apply(resource, object, { fieldManager: 'test' })
  }
  const agent = await server.as(
    'system:serviceaccount:kube-system:cilium',
    ['system:serviceaccounts', 'system:serviceaccounts:kube-system', 'system:authenticated'],
    { 'authentication.kubernetes.io/node-name': ['mine'] },
  )
  const without = await server.as('system:serviceaccount:kube-system:cilium', ['system:authenticated'])
  const write = (who: KubeClient, name: string) =>
    who.apply(CILIUM_NODES, announced(name, '10.244.30.0/24'), { fieldManager: 'agent', force: true })
  // the policy takes effect a moment after it was made
  await until(async () => {
    try {
      await write(agent, 'theirs')
      return false
    } catch (error) {
      return hasCode(error, 'kube.forbidden') && String(error).includes('may write only its own CiliumNode, not theirs')
    }
  })
  assert.equal((await write(agent, 'mine')).metadata.name, 'mine')
  await client.apply(CILIUM_NODES, announced('theirs', '10.244.31.0/24'), { fieldManager: 'other', force: true })
  await assert.rejects(write(agent, 'theirs'), (error) => hasCode(error, 'kube.forbidden'))
  await assert.rejects(agent.patch(CILIUM_NODES, 'theirs', { metadata: { annotations: { a: 'b' } } }), (error) =>
    hasCode(error, 'kube.forbidden'),
  )
  await assert.rejects(write(without, 'mine'), (error) => hasCode(error, 'kube.forbidden'))
})
