import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseConfig } from '#core/api/config.ts'
import { requireIp } from '#core/ip/address.ts'
import { macOfIp } from '#core/ip/mac.ts'
import { plan } from '#core/plan/plan.ts'
import { formatAgentStatus } from '#core/status/agent-status.ts'
import { parsePublicKey } from '#core/wireguard/key.ts'
import { ipsecConfig, ipsecPeerOf, nodeIpsOf, peerOf, snapshotOf } from '#test/kit/snapshots.ts'
import { endpointStatus } from './endpoint-status.ts'
import { makeStatus, type StatusInputs } from './status.ts'

const NOW = Date.parse('2026-11-21T12:00:00Z')

function inputs(change: Partial<StatusInputs> = {}): StatusInputs {
  const snapshot = snapshotOf(1, 3, [peerOf(2, 3), peerOf(3, 3)])
  const made = plan(snapshot)
  const parsed = parseConfig({ 'pellicle-cluster-cidrs': '10.244.0.0/16', 'enable-wireguard': 'true' })
  assert.ok(made.usable && parsed.ok)
  return {
    nodeName: snapshot.self.name,
    config: parsed.value.config,
    applied: { snapshot, plan: made },
    transition: undefined,
    notReady: undefined,
    workers: [],
    endpoints: [],
    device: undefined,
    ipsecDevice: undefined,
    ipsecKeys: undefined,
    rotation: undefined,
    health: undefined,
    usage: [],
    datapath: 'fake',
    kubernetes: { state: 'Ok' },
    cniFile: { state: 'Ok' },
    host: { drops: {}, upkeep: undefined },
    paths: new Map(),
    counters: {},
    now: NOW,
    levelSince: NOW,
    ...change,
  }
}

test('a peer with an old handshake is well as long as nothing is unanswered', () => {
  const base = inputs()
  const [first, second] = base.applied?.snapshot.peers ?? []
  const state = (text: string | undefined, unansweredSince: number | undefined) => {
    const publicKey = parsePublicKey(text ?? '')
    assert.ok(publicKey !== undefined)
    return {
      publicKey,
      endpoint: { ip: requireIp('172.18.0.9', 'test'), port: 51871 },
      allowedIps: [],
      lastHandshake: NOW - 3_600_000,
      rxBytes: 1n,
      txBytes: 1n,
      ...(unansweredSince === undefined ? {} : { unansweredSince }),
    }
  }
  const statusWith = (since: number | undefined) => {
    const peers = [state(first?.publicKeyText, since), state(second?.publicKeyText, undefined)]
    const publicKey = peers[1]?.publicKey
    assert.ok(publicKey !== undefined)
    return makeStatus(inputs({ device: { name: 'cilium_wg0', publicKey, listenPort: 51871, peers } }))
  }
  const states = (since: number | undefined) => statusWith(since).pellicle.peers.map((peer) => peer.state)
  assert.deepEqual(states(undefined), ['ok', 'ok'])
  assert.deepEqual(states(NOW - 5000), ['ok', 'ok'], 'an answer may still come')
  assert.deepEqual(states(NOW - 60_000), ['no answer', 'ok'])
  const text = formatAgentStatus(statusWith(NOW - 60_000))
  assert.match(text, new RegExp(`Unreachable nodes: +${first?.name} \\(no answer since 2026-11-21T11:59:00.000Z\\)`))
})

test('a node that holds up a change is named with what to do, but not at once', () => {
  const transition = {
    next: { level: 2, epoch: 1 },
    phase: 'turning on',
    text: 'turning on, step 3 of 3 (waiting for node9)',
    waitingFor: ['node9'],
  } as const
  assert.deepEqual(makeStatus(inputs({ transition })).pellicle.problems, [])
  const { problems } = makeStatus(inputs({ transition, levelSince: NOW - 120_000 })).pellicle
  assert.equal(problems.length, 1)
  assert.match(problems[0] ?? '', /waiting for node9.*kubectl delete node node9/)
})

test('drops and repairs are told, in short and in full', () => {
  const host = {
    drops: { loop: 0, multicast: 7, pod_wrong_source: 4 },
    upkeep: { restored: 2, completed: 1, lostEvents: 0 },
  }
  const status = makeStatus(inputs({ host, counters: { packetsSent: 5, dropNoPeer: 1 } }))
  const short = formatAgentStatus(status)
  assert.match(short, /^Dropped packets: +5 /m)
  assert.match(short, /^Put back: +2 routes/m)
  const full = formatAgentStatus(status, { verbose: true })
  for (const line of [/^ {2}multicast +7 /m, /^ {2}pod_wrong_source +4 +sent by a pod/m, /^ {2}dropNoPeer +1 /m]) {
    assert.match(full, line)
  }
  assert.doesNotMatch(full, /loop|packetsSent/)
  assert.doesNotMatch(formatAgentStatus(makeStatus(inputs())), /Dropped|Put back/)
})

test('the mode is what the node does: Wireguard without a message only when it is closed, with a key and a device', () => {
  const transition = {
    next: { level: 1, epoch: 1 },
    phase: 'turning on',
    text: 'turning on, step 2',
    waitingFor: [],
  } as const
  const at = (level: 0 | 1 | 2 | 3, change: Partial<StatusInputs> = {}, hasKey = true) => {
    const snapshot = snapshotOf(1, level, [peerOf(2, level)])
    const made = plan(snapshot)
    const { publicKey } = snapshotOf(1, 3, []).self
    assert.ok(made.usable && publicKey !== undefined)
    const self = { ...snapshot.self, publicKey: hasKey ? publicKey : undefined }
    const device = { name: 'cilium_wg0', publicKey, listenPort: 51871, peers: [] }
    const applied = { snapshot: { ...snapshot, self }, plan: made }
    const { mode, msg } = makeStatus(inputs({ applied, device, transition, ...change })).encryption
    return [mode, msg]
  }
  assert.deepEqual(at(3), ['Wireguard', undefined])
  assert.deepEqual(at(2), ['Wireguard', 'turning on, step 2'])
  assert.deepEqual(at(1), ['Disabled', 'turning on, step 2'])
  assert.deepEqual(at(0), ['Disabled', 'turning on, step 2'])
  assert.deepEqual(at(3, {}, false), ['Wireguard', 'this node has no key: its pods are cut off from other nodes'])
  assert.deepEqual(at(3, { device: new Error('the supervisor is away') }), ['Wireguard', 'the supervisor is away'])
})

test('routing and failures are told in Cilium’s words', () => {
  const workers = [
    { name: 'apply', failures: 0, lastError: undefined, lastFailure: 0 },
    { name: 'publish', failures: 2, lastError: new Error('away'), lastFailure: NOW },
  ]
  const base = inputs({ workers })
  assert.ok(base.config !== undefined)
  const status = makeStatus({ ...base, config: { ...base.config, routingMode: 'native', profile: '1.17.2' } })
  assert.equal(status.routing['inter-host-routing-mode'], 'Native')
  assert.equal(makeStatus(base).routing['inter-host-routing-mode'], 'Tunnel [vxlan]')
  assert.match(status.pellicle['cilium-version'], /^1\.17\.2-/)
  assert.deepEqual(status.controllers, [
    { name: 'apply' },
    {
      name: 'publish',
      status: {
        'consecutive-failure-count': 2,
        'last-failure-msg': 'away',
        'last-failure-timestamp': new Date(NOW).toISOString(),
      },
    },
  ])
})

test('endpoints as Cilium lists them', () => {
  const endpoint = {
    containerId: 'c0ffee',
    ifname: 'eth0',
    device: 'lxc1',
    mac: macOfIp(requireIp('10.244.1.7', 'test')),
    hostMac: macOfIp(requireIp('10.244.1.1', 'test')),
    netns: '/run/netns/a',
    ips: ['10.244.1.7', 'fd00::7'].map((ip) => ({
      ip: requireIp(ip, 'test'),
      gateway: requireIp('10.244.1.1', 'test'),
    })),
    pod: 'default/xwing',
    ready: true,
  }
  const { status } = endpointStatus(endpoint)
  assert.equal(status.state, 'ready')
  assert.deepEqual(status['external-identifiers'], {
    'container-id': 'c0ffee',
    'pod-name': 'default/xwing',
    'k8s-namespace': 'default',
    'k8s-pod-name': 'xwing',
  })
  assert.deepEqual(status.networking.addressing, [{ ipv4: '10.244.1.7', ipv6: 'fd00::7' }])
  const nameless = endpointStatus({ ...endpoint, pod: '', ready: false }).status
  assert.equal(nameless.state, 'not-ready')
  assert.deepEqual(nameless['external-identifiers'], { 'container-id': 'c0ffee' })
})

test('a way that takes less than this node sends is told, with what to set', () => {
  const peers = [2, 3, 4].map((n) => ipsecPeerOf(n, 3))
  const snapshot = snapshotOf(1, 3, peers, { config: ipsecConfig('udp') })
  const made = plan(snapshot)
  assert.ok(made.usable)
  const paths = new Map([
    [nodeIpsOf(2)[4], 1400],
    [nodeIpsOf(3)[4], 1500],
    [nodeIpsOf(4)[4], made.ipsec?.mtu ?? 0],
  ])
  const { problems } = makeStatus(inputs({ applied: { snapshot, plan: made }, paths })).pellicle
  assert.equal(problems.length, 1)
  assert.match(problems[0] ?? '', /^CiliumNode\/node-2: the way to 172\.18\.0\.4 takes 1400 bytes, .* up to 1500 there/)
  assert.match(problems[0] ?? '', /ping -M do -s 1372 172\.18\.0\.4 .* set MTU=1400 for all nodes/)
})
