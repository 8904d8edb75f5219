import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { announceNode, type CiliumNode, type OwnAnnouncement } from '#core/api/cilium-node.ts'
import { type AgentConfig, parseConfig } from '#core/api/config.ts'
import { ANNOTATION } from '#core/api/names.ts'
import type { NodeFacts } from '#core/api/node.ts'
import { Fault } from '#core/fault/fault.ts'
import type { HostPlan } from '#core/host/host-plan.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import type { IpsecKey } from '#core/ipsec/key.ts'
import { parseKeyTexts } from '#core/ipsec/key-text.ts'
import { IPSEC_DEVICE, VXLAN_DEVICE, WIREGUARD_DEVICE } from '#core/plan/names.ts'
import { formatAnnouncement, type Level } from '#core/transition/level.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import { JsonFile } from '#io/store/json-file.ts'
import { SILENT } from '#io/telemetry/log.ts'
import { FakeDatapath } from '#test/kit/fake-datapath.ts'
import { NO_KEYS } from '#test/kit/key-reading.ts'
import { Agent, type ClusterView } from './agent.ts'
import { Endpoints, endpointsSchema } from './endpoints.ts'
import type { KeyReading } from './key-source.ts'
import { NodeAddresses } from './node-addresses.ts'
import { NodeStateStore, nodeStateSchema } from './node-state.ts'
import { loadOwnKey } from './own-key.ts'
import type { HostNetwork } from './ports.ts'
import type { OwnsCidrs, Registry } from './publisher.ts'

/**
 * The CiliumNodes of a small cluster; every agent sees every change at once.
 *
 * The file is longer than others: WireGuard, IPsec and the change between them are seen on the same played cluster, which is
 * a third of it.
 */
class Cluster implements Registry {
  readonly nodes = new Map<string, CiliumNode>()
  readonly facts = new Map<string, NodeFacts>()
  readonly members: Member[] = []
  #version = 1000
  encryption = false
  /** IPsec instead of WireGuard. */
  ipsec = false
  /** Nothing comes from any peer by a device that nothing is sent by. */
  silent = false
  /** The same for this node alone. */
  deaf: string | undefined
  keys: KeyReading = NO_KEYS
  away: Error | undefined

  /** Of ConfigMap cilium-config, besides the encryption. */
  more: Readonly<Record<string, string>> = { 'pellicle-cluster-cidrs': '10.244.0.0/16' }

  async announce(own: OwnAnnouncement, { podCidrs }: OwnsCidrs = { podCidrs: true }): Promise<string> {
    if (this.away !== undefined) throw this.away
    const { ipam, ...spec } = announceNode(own).spec
    const kept = podCidrs ? ipam : this.nodes.get(own.name)?.spec.ipam
    const { metadata, ...rest } = announceNode(own)
    const resourceVersion = String(++this.#version)
    const said = { ...rest, metadata: { ...metadata, resourceVersion } }
    this.nodes.set(own.name, { ...said, spec: { ...spec, ...(kept === undefined ? {} : { ipam: kept }) } })
    this.nudge()
    return resourceVersion
  }
  get version(): string {
    return String(this.#version)
  }
  /** What the operator would. */
  give(name: string, podCidr: string | undefined, error?: string): void {
    const node = this.nodes.get(name)
    assert(node !== undefined)
    this.nodes.set(name, {
      ...node,
      spec: { ...node.spec, ...(podCidr === undefined ? {} : { ipam: { podCIDRs: [podCidr] } }) },
      status: { ipam: { 'operator-status': error === undefined ? {} : { error } } },
    })
    this.nudge()
  }
  async annotate(): Promise<void> {
    // nobody asks for it here
  }
  nudge(): void {
    for (const { agent } of this.members) agent.nudge()
  }
  /** What the engines would: each hears its peers, and has sessions with them. */
  prove(): void {
    for (const { datapath, name } of this.silent ? [] : this.members) {
      if (name === this.deaf) continue
      for (const { publicKey } of datapath.devices.get(WIREGUARD_DEVICE)?.peers ?? [])
        datapath.handshakes.set(publicKey, Date.now())
      const device = datapath.ipsec.get(IPSEC_DEVICE)
      for (const { node } of device?.wanted?.peers ?? []) device?.heard.add(node)
    }
  }
  get stages(): string {
    const nodes = [...this.nodes.values()].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
    return nodes.map(({ metadata }) => metadata.annotations?.[ANNOTATION.mode]?.[0]).join('')
  }
  get levels(): string {
    const nodes = [...this.nodes.values()].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
    return nodes.map(({ metadata }) => metadata.annotations?.[ANNOTATION.level]?.[0]).join('')
  }
  config(): AgentConfig {
    const data = {
      ...this.more,
      [this.ipsec ? 'enable-ipsec' : 'enable-wireguard']: String(this.encryption),
    }
    const parsed = parseConfig(data)
    assert.ok(parsed.ok)
    return parsed.value.config
  }
}

class FakeHost implements HostNetwork {
  readonly plans: HostPlan[] = []
  readonly #datapath: FakeDatapath
  failure: Error | undefined
  /** While it is pending, nothing is applied. */
  gate: Promise<void> = Promise.resolve()

  constructor(datapath: FakeDatapath) {
    this.#datapath = datapath
  }
  async apply(plan: HostPlan) {
    await this.gate
    if (this.failure !== undefined) throw this.failure
    this.plans.push(plan)
    const { devices, ipsec } = this.#datapath
    const there = new Map<string, boolean>([
      [WIREGUARD_DEVICE, devices.has(WIREGUARD_DEVICE)],
      [IPSEC_DEVICE, ipsec.has(IPSEC_DEVICE)],
    ])
    const waitingFor = plan.links.map(({ name }) => name).filter((name) => there.get(name) === false)
    return { changes: 1, waitingFor }
  }
  async observe() {
    return { drops: {}, upkeep: undefined }
  }
  async underlay() {
    return { device: 'eth0', mtu: 1500 }
  }
  async removeDevice(): Promise<void> {
    // the datapath's devices are all that there are
  }
  async pathMtus() {
    return new Map()
  }
  async close(): Promise<void> {
    // nothing is held
  }
}

interface Member {
  readonly name: string
  readonly agent: Agent
  readonly datapath: FakeDatapath
  readonly host: FakeHost
  readonly state: NodeStateStore
}

let folder: string
let cluster: Cluster
/** Aborted when a test has ended, also by its limit. */
let ended: AbortController
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pa-agent-'))
  cluster = new Cluster()
  ended = new AbortController()
})
afterEach(async () => {
  ended.abort()
  for (const { agent } of cluster.members) await agent.close()
  await rm(folder, { recursive: true })
})

async function join1(
  index: number,
  options: { podCidr?: string; registry?: Registry; datapath?: FakeDatapath } = {},
): Promise<Member> {
  const name = `node${index}`
  const datapath = options.datapath ?? new FakeDatapath()
  const host = new FakeHost(datapath)
  const state = new NodeStateStore(new JsonFile(join(folder, name, 'node.json'), nodeStateSchema))
  await state.load()
  const endpoints = new Endpoints(new JsonFile(join(folder, name, 'endpoints.json'), endpointsSchema))
  const podCidr = options.podCidr ?? `10.244.${index}.0/24`
  const node: NodeFacts = {
    name,
    uid: `uid-${index}`,
    labels: {},
    internalIps: [requireIp(`172.18.0.${index + 1}`, 'test')],
    podCidrs: podCidr === '' ? [] : [requireCidr(podCidr, 'test')],
    ready: true,
    problems: [],
  }
  cluster.facts.set(name, node)
  const view = (): ClusterView => ({
    config: cluster.config(),
    node,
    nodes: cluster.facts,
    ciliumNodes: [...cluster.nodes.values()],
    version: cluster.version,
  })
  const agent = new Agent({
    nodeName: name,
    bootId: '11111111-1111-4111-8111-111111111111',
    registry: options.registry ?? cluster,
    host,
    datapath,
    endpoints,
    state,
    addresses: new NodeAddresses(),
    log: SILENT,
    view,
    loadKey: () => loadOwnKey(join(folder, name, 'cilium_wg0.key')),
    ipsecKeys: () => cluster.keys,
    onProgrammed: async () => undefined,
    now: () => 0,
  })
  const member = { name, agent, datapath, host, state }
  cluster.members.push(member)
  agent.nudge()
  return member
}

/** Looks again until it holds; the test's own limit ends it otherwise. */
async function until(holds: () => boolean): Promise<void> {
  const { signal } = ended
  while (!holds()) {
    signal.throwIfAborted()
    cluster.prove()
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

const LIMIT = { timeout: 100_000 }

test('a cluster in clear goes closed together, and back', LIMIT, async () => {
  for (const index of [1, 2, 3]) await join1(index)
  await until(() => cluster.levels === '000')
  for (const { datapath } of cluster.members) assert.equal(datapath.devices.size, 0)
  cluster.encryption = true
  cluster.nudge()
  await until(() => cluster.levels === '333')
  await until(() => cluster.members.every(({ agent }) => agent.transition?.phase === 'on'))
  for (const { datapath, agent } of cluster.members) {
    const device = datapath.devices.get(WIREGUARD_DEVICE)
    assert.equal(device?.peers.length, 2)
    assert.equal(device.listenPort, 51871)
    assert.equal(agent.publicKey?.length, 44)
  }
  for (const node of cluster.nodes.values()) {
    assert.equal(node.spec.encryption?.key, 255)
    assert.equal(node.metadata.annotations?.[ANNOTATION.publicKey]?.length, 44)
  }
  cluster.encryption = false
  cluster.nudge()
  await until(() => cluster.levels === '000')
  await until(() => cluster.members.every(({ datapath }) => datapath.devices.size === 0))
  await until(() =>
    [...cluster.nodes.values()].every(
      ({ spec, metadata }) =>
        spec.encryption === undefined && metadata.annotations?.[ANNOTATION.publicKey] === undefined,
    ),
  )
})

test('a key is announced only when its receiver is there', LIMIT, async () => {
  const one = await join1(1)
  await join1(2)
  await until(() => cluster.levels === '00')
  one.datapath.failure = new Fault('datapath.supervisor.away', 'the supervisor does not answer', { remedy: 'start it' })
  cluster.encryption = true
  cluster.nudge()
  await until(() => cluster.levels === '01')
  await until(() =>
    one.agent.workers.some(({ lastError }) => lastError instanceof Fault && lastError.code === 'datapath.unusable'),
  )
  assert.equal(cluster.nodes.get('node1')?.metadata.annotations?.[ANNOTATION.publicKey], undefined)
  assert.equal(one.agent.notReady(), undefined, 'pods are served in clear until then')
  one.datapath.failure = undefined
  await until(() => cluster.levels === '33')
})

test('a step is never taken on this node’s own word of one view and a peer’s of an earlier one', LIMIT, async () => {
  cluster.encryption = true
  const peer = (level: Level, epoch: number) =>
    cluster.nodes.set(
      'node2',
      announceNode({
        name: 'node2',
        nodeUid: 'uid-2',
        nodeIps: [requireIp('172.18.0.3', 'test')],
        internalIps: [requireIp('10.244.2.1', 'test')],
        podCidrs: [requireCidr('10.244.2.0/24', 'test')],
        publicKey: undefined,
        keyId: 0,
        bootId: '11111111-1111-4111-8111-111111111111',
        announcement: { level, epoch },
      }),
    )
  peer(0, 1)
  let said: OwnAnnouncement | undefined
  const levels: string[] = []
  // what this node says is seen when the test wants it
  const registry: Registry = {
    announce: async (own) => {
      said = own
      if (own.announcement !== undefined) levels.push(formatAnnouncement(own.announcement))
      return undefined
    },
    annotate: () => cluster.annotate(),
  }
  const one = await join1(1, { registry })
  await until(() => levels.length > 0)
  assert.deepEqual(levels, ['1.1'])
  peer(1, 1)
  cluster.nudge()
  await one.agent.programmed()
  let open = () => undefined as void
  one.host.gate = new Promise((resolve) => {
    open = resolve
  })
  ended.signal.addEventListener('abort', open)
  // in one view: own word has arrived, and the peer has changed its mind; the plan of it is not in force yet
  cluster.nodes.set('node1', announceNode(said as OwnAnnouncement))
  peer(1, 2)
  cluster.nudge()
  // several runs of what publishes
  for (let turn = 0; turn < 20; turn++) {
    one.agent.nudge()
    await new Promise((resolve) => setTimeout(resolve, 15))
    assert.deepEqual(one.state.value.announcement, { level: 1, epoch: 1 })
  }
  open()
  await one.agent.programmed()
  await until(() => one.agent.transition?.waitingFor.join() === 'node2')
  assert.deepEqual(one.state.value.announcement, { level: 1, epoch: 1 })
})

test('an agent that starts again keeps key, level and addresses, and has nothing to change', LIMIT, async () => {
  cluster.encryption = true
  const before = await join1(1)
  await join1(2)
  await until(() => cluster.levels === '33' && before.agent.transition?.phase === 'on')
  await until(() => JSON.stringify(before.host.plans.at(-1)).includes('10.244.2.0/24'))
  const key = before.agent.publicKey
  const said = cluster.nodes.get('node1')
  await before.agent.close()
  cluster.members.splice(0, 1)
  const after = await join1(1)
  await until(() => after.agent.transition?.phase === 'on')
  assert.equal(after.agent.publicKey, key)
  assert.deepEqual(after.state.value, before.state.value)
  assert.equal(cluster.nodes.get('node1'), said, 'nothing was written anew')
  assert.deepEqual(after.host.plans[0], before.host.plans.at(-1))
})

test('the API server away: pods are still served, and what was to be said is said later', LIMIT, async () => {
  const one = await join1(1)
  await until(() => cluster.levels === '0')
  cluster.away = new Fault('kube.unreachable', 'the API server does not answer')
  cluster.encryption = true
  cluster.nudge()
  await until(() => one.agent.workers.some(({ name, failures }) => name === 'publish' && failures > 0))
  await one.agent.programmed()
  assert.equal(cluster.levels, '0')
  cluster.away = undefined
  await until(() => cluster.levels === '3')
})

test('a failing step is told, tried again, and nothing further is announced', LIMIT, async () => {
  const one = await join1(1)
  await until(() => cluster.levels === '0')
  one.host.failure = new Fault('kernel.enospc', 'cannot set route', { remedy: 'free some memory' })
  cluster.encryption = true
  cluster.nudge()
  await until(() => one.agent.workers.some(({ name, failures }) => name === 'apply' && failures > 1))
  assert.match(cluster.levels, /^0$/)
  await assert.rejects(one.agent.programmed(), /cannot set route/)
  one.host.failure = undefined
  await until(() => cluster.levels === '3')
})

test('a node without a pod CIDR says what it waits for', LIMIT, async () => {
  const one = await join1(1, { podCidr: '' })
  await until(() => (one.agent.notReady() ?? '').includes('has no pod CIDR'))
  assert.equal(one.host.plans.length, 0)
  await assert.rejects(one.agent.programmed(), /no pod CIDR/)
  await assert.rejects(one.agent.flush({ spi: undefined, node: undefined }), /no pod CIDR/)
  await one.agent.pause('this node is being cleaned up')
  await assert.rejects(one.agent.flush({ spi: undefined, node: undefined }), /cleaned up/)
})

test(
  'cluster-pool: a node tells that it is there, waits for what the operator gives, and gives its pods of it',
  LIMIT,
  async () => {
    cluster.more = { ipam: 'cluster-pool', 'cluster-pool-ipv4-cidr': '10.5.0.0/16' }
    cluster.encryption = true
    // what Kubernetes has given them says nothing
    const [one, two] = [await join1(1), await join1(2)]
    await until(() => cluster.nodes.size === 2)
    assert.deepEqual(cluster.nodes.get('node1')?.spec.addresses, [], 'nobody speaks to it yet')
    assert.deepEqual(cluster.nodes.get('node1')?.metadata.annotations, {})
    await until(() => one.agent.notReady()?.includes('no IPv4 pod CIDR (the operator gives one)') === true)
    cluster.give('node1', undefined, 'the pool 10.5.0.0/16 is used up')
    await until(() => one.agent.notReady()?.includes('the operator says: the pool 10.5.0.0/16 is used up') === true)
    assert.equal(one.host.plans.length, 0)
    cluster.give('node1', '10.5.7.0/24')
    cluster.give('node2', '10.5.9.0/24')
    await until(() => cluster.levels === '33')
    const said = cluster.nodes.get('node1')?.spec
    assert.deepEqual(said?.ipam?.podCIDRs, ['10.5.7.0/24'], 'left to the operator')
    const guarded = () => cluster.nodes.get('node1')?.metadata.annotations?.[ANNOTATION.guards]
    await until(() => guarded() === '10.5.0.0/16')
    assert.deepEqual(
      said?.addresses?.map(({ ip }) => ip),
      ['172.18.0.2', '10.5.7.1'],
    )
    for (const [member, other] of [
      [one, '10.5.9.0/24'],
      [two, '10.5.7.0/24'],
    ] as const) {
      await until(() => JSON.stringify(member.host.plans.at(-1)).includes(`"destination":"${other}"`))
      const plan = JSON.stringify(member.host.plans.at(-1))
      assert.match(plan, /"destination":"10\.5\.0\.0\/16","type":"blackhole"/)
      assert.doesNotMatch(plan, /10\.244\./)
      const [device] = member.datapath.devices.values()
      assert.ok(device?.peers.some(({ allowedIps }) => allowedIps.some((cidr) => cidr === other)))
    }
    assert.equal(one.agent.notReady(), undefined)
    cluster.more = { ...cluster.more, 'cluster-pool-ipv4-cidr': '10.5.0.0/16 10.7.0.0/16' }
    cluster.nudge()
    await until(() => guarded() === '10.5.0.0/16 10.7.0.0/16')
    assert.match(JSON.stringify(one.host.plans.at(-1)), /"destination":"10\.7\.0\.0\/16","type":"blackhole"/)
  },
)

test('running pods outside a new pod CIDR are named, not overwritten', () => {
  const addresses = new NodeAddresses()
  const ip = requireIp('10.244.9.7', 'test')
  const gateway = requireIp('10.244.9.1', 'test')
  const endpoint = { containerId: 'c', ifname: 'eth0', ips: [{ ip, gateway }] } as never
  assert.throws(
    () => addresses.use([requireCidr('10.244.1.0/24', 'test')], [], [endpoint], 0),
    /c\/eth0 holds 10\.244\.9\.7/,
  )
  assert.deepEqual(addresses.use([requireCidr('10.244.9.0/24', 'test')], [gateway], [endpoint], 0), [gateway])
  assert.notEqual(addresses.allocate('d/eth0', 0)[0]?.ip, ip)
})

function ipsecKey(id: number): IpsecKey {
  const parsed = parseKeyTexts(
    `${id}+ rfc4106(gcm(aes)) ${createHash('sha1').update(`${id}`).digest('hex')} 128`,
    ipsecHash,
  )
  assert.ok(parsed.ok)
  return parsed.value[0] as IpsecKey
}

const wordsOf = (name: string) => cluster.nodes.get(name)?.metadata.annotations?.[ANNOTATION.ipsecKeys]
const allSay = (pattern: RegExp) => [...cluster.nodes.keys()].every((name) => pattern.test(wordsOf(name) ?? ''))

test('ipsec: without a key a node waits, with one the cluster goes closed, and back', LIMIT, async () => {
  cluster.ipsec = true
  cluster.encryption = true
  const problem = new Fault('ipsec.key.missing', 'there is no Secret', { remedy: 'kubectl create secret' })
  cluster.keys = { ...cluster.keys, problem }
  const one = await join1(1)
  for (const index of [2, 3]) await join1(index)
  await until(() => /there is no Secret.*kubectl create secret/.test(one.agent.notReady() ?? ''))
  assert.equal(one.host.plans.length, 0)
  cluster.keys = { ...cluster.keys, current: [ipsecKey(3)], problem: undefined }
  cluster.nudge()
  await until(() => cluster.levels === '333' && allSay(/^receives=3:[0-9a-f]{16} sends=3:[0-9a-f]{16}$/))
  for (const { datapath, agent } of cluster.members) {
    await until(() => datapath.ipsec.get(IPSEC_DEVICE)?.state().associations.length === 4)
    const device = datapath.ipsec.get(IPSEC_DEVICE)
    assert.equal(device?.wanted?.peers.length, 2)
    assert.equal(agent.publicKey, undefined)
    const own = [...cluster.nodes.values()].find(({ spec }) => spec.bootid === device?.bootId)
    assert.equal(own?.spec.encryption?.key, 3)
  }
  cluster.encryption = false
  cluster.nudge()
  await until(() => cluster.levels === '000')
  await until(() => cluster.members.every(({ datapath }) => datapath.ipsec.size === 0))
  await until(() => [...cluster.nodes.keys()].every((name) => wordsOf(name) === undefined))
})

test('ipsec: a rotation receives everywhere before anybody sends, and lets the old key go', LIMIT, async () => {
  cluster.ipsec = true
  cluster.encryption = true
  cluster.keys = { ...cluster.keys, current: [ipsecKey(3)] }
  for (const index of [1, 2, 3]) await join1(index)
  await until(() => cluster.levels === '333' && allSay(/^receives=3:\S+ sends=3:\S+$/))
  for (const { datapath } of cluster.members) datapath.ipsec.get(IPSEC_DEVICE)?.steps.splice(0)
  cluster.keys = { ...cluster.keys, current: [ipsecKey(4)] }
  cluster.nudge()
  await until(() => allSay(/^receives=4:\S+ sends=4:\S+$/))
  for (const { datapath, state } of cluster.members) {
    const steps = datapath.ipsec.get(IPSEC_DEVICE)?.steps ?? []
    // said first, then done
    await until(() => steps.filter((step) => step.startsWith('-in')).length === 2)
    const at = (pattern: RegExp) => steps.map((step, index) => (pattern.test(step) ? index : -1)).filter((n) => n >= 0)
    assert.equal(at(/^\+in .* 4$/).length, 2)
    assert.equal(at(/^-in .* 3$/).length, 2)
    assert.ok(Math.max(...at(/^\+in/)) < Math.min(...at(/^\+out/)), steps.join())
    assert.ok(Math.max(...at(/^\+out/)) < Math.min(...at(/^-in/)), steps.join())
    await until(() => state.value.retiredKeys?.join() === ipsecKey(3).fingerprint)
  }
  // decisions are about keys by name: nothing that is told anywhere has their bytes
  const told = JSON.stringify(cluster.members.map(({ agent }) => [agent.applied, agent.ipsec.rotation]))
  assert.ok(told.includes(ipsecKey(4).fingerprint) && !told.includes('authenticationKey'))
  // put back: it was used before
  cluster.keys = { ...cluster.keys, current: [ipsecKey(3)] }
  cluster.nudge()
  await until(() => cluster.members.every(({ agent }) => (agent.ipsec.rotation?.problems.length ?? 0) > 0))
  assert.match(cluster.members[0]?.agent.ipsec.rotation?.problems[0]?.message ?? '', /was used before/)
})

test('ipsec: a datapath that begins anew is published with its new boot id', LIMIT, async () => {
  cluster.ipsec = true
  cluster.encryption = true
  cluster.keys = { ...cluster.keys, current: [ipsecKey(3)] }
  const one = await join1(1)
  const two = await join1(2)
  await until(() => cluster.levels === '33' && allSay(/^receives=3:\S+ sends=3:\S+$/))
  const before = cluster.nodes.get('node1')?.spec.bootid
  one.datapath.ipsec.clear()
  one.agent.resync()
  await until(() => cluster.nodes.get('node1')?.spec.bootid !== before)
  const peer = () => two.datapath.ipsec.get(IPSEC_DEVICE)?.wanted?.peers[0]
  await until(() => peer()?.bootId === cluster.nodes.get('node1')?.spec.bootid)
  await until(() => allSay(/^receives=3:\S+ sends=3:\S+$/))
})

test('ipsec: an agent that starts again changes nothing', LIMIT, async () => {
  cluster.ipsec = true
  cluster.encryption = true
  cluster.keys = { ...cluster.keys, current: [ipsecKey(3)] }
  const before = await join1(1)
  await join1(2)
  await until(() => cluster.levels === '33' && allSay(/^receives=3:\S+ sends=3:\S+$/))
  const said = cluster.nodes.get('node1')
  await before.agent.close()
  cluster.members.splice(0, 1)
  const steps = before.datapath.ipsec.get(IPSEC_DEVICE)?.steps.length
  const after = await join1(1, { datapath: before.datapath })
  await until(() => after.agent.transition?.phase === 'on')
  await after.agent.programmed()
  assert.equal(after.datapath.ipsec.get(IPSEC_DEVICE)?.steps.length, steps)
  assert.equal(cluster.nodes.get('node1'), said, 'nothing was written anew')
})

test('ipsec: who says that it sends encrypted sends nothing in clear any more', LIMIT, async () => {
  cluster.ipsec = true
  cluster.keys = { ...cluster.keys, current: [ipsecKey(3)] }
  const clear = new Map<string, string[]>()
  const registry: Registry = {
    announce: async (own) => {
      const routes = cluster.members.find(({ name }) => name === own.name)?.host.plans.at(-1)?.routes ?? []
      const left = routes.filter(({ device, type }) => type === 'unicast' && device === VXLAN_DEVICE)
      if ((own.announcement?.level ?? 0) >= 2) clear.set(own.name, [...(clear.get(own.name) ?? []), `${left.length}`])
      return await cluster.announce(own)
    },
    annotate: () => cluster.annotate(),
  }
  for (const index of [1, 2, 3]) await join1(index, { registry })
  await until(() => cluster.levels === '000')
  cluster.encryption = true
  cluster.nudge()
  await until(() => cluster.levels === '333')
  assert.deepEqual(
    [...clear.values()].flat().filter((count) => count !== '0'),
    [],
  )
})

const devicesOf = ({ datapath }: Member) => [...datapath.devices.keys(), ...datapath.ipsec.keys()].join()
/** By which device the node's pods reach the second node's. */
const wayOf = ({ host }: Member, index: number) =>
  host.plans.at(-1)?.routes.find(({ destination, table }) => destination === `10.244.${index}.0/24` && table === 201)
    ?.device

test(
  'mode: WireGuard becomes IPsec on a closed cluster, and back, each by both until nobody needs the old one',
  LIMIT,
  async () => {
    cluster.encryption = true
    cluster.keys = { ...cluster.keys, current: [ipsecKey(3)] }
    for (const index of [1, 2, 3]) await join1(index)
    const [one] = cluster.members as [Member]
    await until(() => cluster.levels === '333' && cluster.stages === '000')
    for (const [ipsec, from, to, final] of [
      [true, WIREGUARD_DEVICE, IPSEC_DEVICE, '333'],
      [false, IPSEC_DEVICE, WIREGUARD_DEVICE, '000'],
    ] as const) {
      await until(() => cluster.members.every((member) => devicesOf(member) === from))
      await until(() => wayOf(one, 2) === from)
      cluster.silent = true
      for (const { datapath } of cluster.members) datapath.handshakes.clear()
      for (const { host } of cluster.members) host.plans.splice(0)
      cluster.ipsec = ipsec
      cluster.nudge()
      // both receive, nobody sends by the new one before something has come by it
      await until(
        () => cluster.stages === (ipsec ? '111' : '222') && one.agent.transition?.waitingFor.join() === 'node2,node3',
      )
      assert.match(one.agent.transition?.text ?? '', /step 2 of 3: still sending by .*waiting for node2, node3/)
      assert.ok(cluster.members.every((member) => devicesOf(member) === `${WIREGUARD_DEVICE},${IPSEC_DEVICE}`))
      assert.equal(wayOf(one, 2), from)
      assert.equal(cluster.levels, '333')
      cluster.silent = false
      await until(() => cluster.stages === final)
      await until(() => cluster.members.every((member) => devicesOf(member) === to))
      for (const { host, agent } of cluster.members) {
        assert.equal(agent.notReady(), undefined)
        // in every plan on the way there is a route to every other node's pods, in the steering table
        for (const { routes } of host.plans) {
          const steered = routes.filter(({ table, type }) => table === 201 && type === 'unicast')
          assert.equal(new Set(steered.map(({ destination }) => destination)).size, 2)
        }
      }
      assert.equal(cluster.levels, '333')
    }
    await until(() => [...cluster.nodes.keys()].every((name) => wordsOf(name) === undefined))
  },
)

test('mode: without a key of IPsec everything stays by WireGuard, and is told', LIMIT, async () => {
  cluster.encryption = true
  const one = await join1(1)
  await join1(2)
  await until(() => cluster.levels === '33' && cluster.stages === '00')
  const problem = new Fault('ipsec.key.missing', 'there is no Secret', { remedy: 'kubectl create secret' })
  cluster.keys = { ...cluster.keys, problem }
  cluster.ipsec = true
  cluster.nudge()
  await until(() => /step 1 of 3.*there is no Secret/.test(one.agent.transition?.text ?? ''))
  assert.equal(one.agent.notReady(), undefined, 'pods are served')
  assert.equal(devicesOf(one), WIREGUARD_DEVICE)
  cluster.keys = { ...cluster.keys, current: [ipsecKey(3)], problem: undefined }
  cluster.nudge()
  await until(() => cluster.stages === '33' && devicesOf(one) === IPSEC_DEVICE)
})

test('mode: an agent that starts again in the middle goes on, one that joins begins by both', LIMIT, async () => {
  cluster.encryption = true
  cluster.keys = { ...cluster.keys, current: [ipsecKey(3)] }
  const before = await join1(1)
  await join1(2)
  await until(() => cluster.levels === '33' && cluster.stages === '00')
  cluster.silent = true
  cluster.ipsec = true
  cluster.nudge()
  await until(() => cluster.stages === '11')
  await before.agent.close()
  cluster.members.splice(0, 1)
  const after = await join1(1, { datapath: before.datapath })
  await until(() => after.agent.transition?.waitingFor.join() === 'node2')
  assert.deepEqual(after.state.value.stage, { level: 1, epoch: 1 })
  assert.equal(devicesOf(after), `${WIREGUARD_DEVICE},${IPSEC_DEVICE}`)
  const third = await join1(3)
  await until(() => cluster.levels === '333' && cluster.stages === '111')
  assert.equal(wayOf(third, 1), WIREGUARD_DEVICE)
  cluster.silent = false
  await until(() => cluster.stages === '333')
  await until(() => cluster.members.every((member) => devicesOf(member) === IPSEC_DEVICE))
})

test('mode: where the new one gets through in one direction only, nobody begins to send by it', LIMIT, async () => {
  cluster.encryption = true
  cluster.keys = { ...cluster.keys, current: [ipsecKey(3)] }
  for (const index of [1, 2, 3]) await join1(index)
  const [one, two] = cluster.members as [Member, Member]
  await until(() => cluster.levels === '333' && cluster.stages === '000')
  cluster.deaf = 'node1'
  cluster.ipsec = true
  cluster.nudge()
  const text = ({ agent }: Member) => agent.transition?.text ?? ''
  await until(() => text(one).includes('waiting for node2, node3: nothing has come from there by it'))
  await until(() => text(two).includes('waiting for node1: not everything has come there by it'))
  await until(() => cluster.nodes.get('node2')?.metadata.annotations?.[ANNOTATION.mode] === '1.1 proven')
  assert.ok(cluster.members.every((member) => wayOf(member, member === one ? 2 : 1) === WIREGUARD_DEVICE))
  cluster.deaf = undefined
  await until(() => cluster.stages === '333')
})

test('mode: encryption is turned off in the middle, and on by the other one', LIMIT, async () => {
  cluster.encryption = true
  cluster.keys = { ...cluster.keys, current: [ipsecKey(3)] }
  for (const index of [1, 2]) await join1(index)
  await until(() => cluster.levels === '33' && cluster.stages === '00')
  cluster.silent = true
  cluster.ipsec = true
  cluster.nudge()
  await until(() => cluster.stages === '11')
  cluster.encryption = false
  cluster.nudge()
  await until(() => cluster.levels === '00' && cluster.stages === '')
  await until(() => cluster.members.every((member) => devicesOf(member) === ''))
  cluster.encryption = true
  cluster.nudge()
  await until(() => cluster.levels === '33' && cluster.stages === '33')
  assert.ok(cluster.members.every((member) => devicesOf(member) === IPSEC_DEVICE))
})
