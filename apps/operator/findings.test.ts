import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { NodeAnnouncement } from '#core/api/cilium-node.ts'
import type { NodeFacts } from '#core/api/node.ts'
import { Fault } from '#core/fault/fault.ts'
import { type Cidr, overlaps, requireCidr } from '#core/ip/cidr.ts'
import type { Level } from '#core/transition/level.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { type ClusterView, type Finding, findTroubles } from './findings.ts'
import { parseOptions } from './options.ts'
import { Troubles } from './troubles.ts'

const cidr = (text: string) => requireCidr(text, 'cidr')
const CLUSTER = [cidr('10.244.0.0/16'), cidr('fd00:10:244::/56')]

function node(name: string, ...podCidrs: readonly string[]): NodeFacts {
  return { name, uid: name, labels: {}, internalIps: [], podCidrs: podCidrs.map(cidr), ready: true, problems: [] }
}

function says(name: string, more: Partial<NodeAnnouncement> = {}): NodeAnnouncement {
  return {
    name,
    uid: name,
    labels: {},
    annotations: {},
    nodeIps: [],
    externalIps: [],
    internalIps: [],
    podCidrs: [],
    publicKey: undefined,
    publicKeyText: undefined,
    keyId: 0,
    bootId: undefined,
    ipsec: undefined,
    announcement: { level: 0, epoch: 0 },
    mode: undefined,
    encryptsHosts: false,
    cleanup: undefined,
    problems: [],
    ...more,
  }
}

function view(more: Partial<ClusterView>): ClusterView {
  return {
    nodes: [],
    announcements: [],
    config: { encryption: 'none', ipam: 'kubernetes', clusterCidrs: CLUSTER },
    podCidrFaults: new Map(),
    ...more,
  }
}

const reasons = (findings: readonly Finding[]) => findings.map((finding) => finding.reason)
const encrypted = { encryption: 'wireguard', ipam: 'kubernetes', clusterCidrs: CLUSTER } as const

test('a healthy cluster has no trouble', () => {
  const a = says('a', { podCidrs: [cidr('10.244.0.0/24')] })
  const b = says('b', { podCidrs: [cidr('10.244.1.0/24')] })
  const nodes = [node('a', '10.244.0.0/24'), node('b', '10.244.1.0/24')]
  assert.deepEqual(findTroubles(view({ nodes, announcements: [a, b] })), [])
})

test('exactly the pairs with common addresses are told, as the slow way finds them', () => {
  const prefix = fc
    .tuple(fc.nat(7), fc.integer({ min: 22, max: 28 }))
    .map(([third, length]) => cidr(`10.244.${third}.${third * 16}/${length}`))
  fc.assert(
    fc.property(fc.array(prefix, { maxLength: 12 }), (prefixes) => {
      const nodes = prefixes.map((one, i) => node(`n${i}`, one))
      const told = findTroubles(
        view({ nodes, announcements: nodes.map(({ name, podCidrs }) => says(name, { podCidrs })) }),
      )
        .filter(({ reason }) => reason === 'OverlappingPodCIDR')
        .map(({ key }) => key)
      const expected = prefixes.flatMap((a, i) =>
        prefixes.flatMap((b: Cidr, j) =>
          j > i && overlaps(a, b) ? [`OverlappingPodCIDR ${[`n${i}`, `n${j}`].toSorted().join(' ')}`] : [],
        ),
      )
      assert.deepEqual(told.toSorted(), expected.toSorted())
    }),
    { seed: 7, numRuns: 500 },
  )
})

test('one key on two nodes is told with both names', () => {
  const publicKey = publicKeyOf(new Uint8Array(32).fill(9))
  const [finding] = findTroubles(
    view({ announcements: ['x', 'y', 'z'].map((name) => says(name, name === 'y' ? {} : { publicKey })) }),
  )
  assert.equal(finding?.reason, 'DuplicatePublicKey')
  assert.match(finding?.sentence ?? '', /x, z/)
})

test('a node without pod CIDR, outside of the cluster, not as announced, or without agent', () => {
  const nodes = [
    node('none'),
    node('out', '192.168.0.0/24'),
    node('other', '10.244.3.0/24'),
    node('silent', '10.244.4.0/24'),
  ]
  const announcements = [says('none'), says('out', { podCidrs: [cidr('192.168.0.0/24')] }), says('other')]
  assert.deepEqual(reasons(findTroubles(view({ nodes, announcements }))), [
    'NoPodCIDR',
    'PodCIDROutsideCluster',
    'PodCIDRNotAnnounced',
    'NoAgent',
  ])
})

test('a transition that waits names whom it waits for, and is another one after any step', () => {
  const at = (name: string, level: Level) =>
    says(name, {
      announcement: { level, epoch: 1 },
      publicKey: publicKeyOf(new Uint8Array(32).fill(name.charCodeAt(0))),
    })
  const first = findTroubles(view({ announcements: [at('a', 2), at('b', 1), at('c', 2)], config: encrypted }))
  assert.deepEqual(reasons(first), ['TransitionStalled'])
  assert.match(first[0]?.sentence ?? '', /3 of 3 nodes are not done, waiting for b/)
  const second = findTroubles(view({ announcements: [at('a', 2), at('b', 2), at('c', 2)], config: encrypted }))
  assert.notEqual(second[0]?.key, first[0]?.key)
  assert.deepEqual(findTroubles(view({ announcements: [at('a', 3)], config: encrypted })), [])
  assert.deepEqual(reasons(findTroubles(view({ announcements: [at('a', 3)] }))), ['TransitionStalled'])
})

test('a node without key is told only while encryption is on', () => {
  const both = {
    nodes: [node('a', '10.244.0.0/24')],
    announcements: [says('a', { podCidrs: [cidr('10.244.0.0/24')], announcement: { level: 3, epoch: 1 } })],
  }
  assert.deepEqual(reasons(findTroubles(view({ ...both, config: encrypted }))), ['NoPublicKey'])
  const ipsec = { ...encrypted, encryption: 'ipsec' } as const
  assert.deepEqual(reasons(findTroubles(view({ ...both, config: ipsec }))), ['NoIPsecKey'])
})

test('every finding has a remedy and fits an Event', () => {
  const nodes = [node('a'), node('b', '10.0.0.0/24')]
  for (const finding of findTroubles(view({ nodes, config: encrypted }))) {
    assert.ok(finding.remedy.length > 0 && finding.reason.length <= 128 && finding.node !== '')
  }
})

test('a trouble is told when it lasted, once, again after a while, and when it is gone', () => {
  const finding: Finding = { key: 'k', reason: 'NoPodCIDR', node: 'a', sentence: 's', remedy: 'r', holdMs: 30_000 }
  const troubles = new Troubles()
  const told = (now: number, findings: readonly Finding[]) => {
    const { tell, resolved } = troubles.update(now, findings)
    return [tell.length, resolved.length]
  }
  assert.deepEqual(told(0, [finding]), [0, 0])
  assert.deepEqual(told(20_000, []), [0, 0])
  assert.deepEqual(told(25_000, [finding]), [0, 0])
  assert.deepEqual(told(54_999, [finding]), [0, 0])
  assert.equal(troubles.counts().get('NoPodCIDR'), undefined)
  assert.deepEqual(told(55_000, [finding]), [1, 0])
  assert.equal(troubles.counts().get('NoPodCIDR'), 1)
  assert.deepEqual(told(60_000, [finding]), [0, 0])
  assert.deepEqual(told(655_000, [finding]), [1, 0])
  assert.deepEqual(told(700_000, []), [0, 1])
  assert.deepEqual(told(700_001, []), [0, 0])
})

test('flags: defaults, environment, and the nearest name for a wrong one', () => {
  assert.equal(parseOptions(['--config-dir', '/x'], { CILIUM_K8S_NAMESPACE: 'net' }).namespace, 'net')
  assert.equal(parseOptions([], {}).healthAddress, '127.0.0.1:9234')
  assert.throws(() => parseOptions(['--config-dri=/x'], {}), {
    code: 'operator.flags',
    remedy: 'Did you mean --config-dir?',
  })
  assert.throws(() => parseOptions(['extra'], {}), { code: 'operator.flags' })
  assert.throws(() => parseOptions(['--config-dir'], {}), { code: 'operator.flags' })
})

test('cluster-pool: what the Nodes say counts for nothing, what the pool lacks is told', () => {
  const fault = (code: string) => new Fault(code, 'the pool is used up', { remedy: 'add one' })
  const found = findTroubles(
    view({
      config: { encryption: 'none', ipam: 'cluster-pool', clusterCidrs: CLUSTER },
      nodes: [node('a', '10.244.1.0/24'), node('b', '192.168.0.0/24'), node('c')],
      announcements: [
        says('a', { podCidrs: [cidr('10.244.0.0/24')] }),
        says('b', { podCidrs: [cidr('10.244.1.0/24')] }),
        says('c'),
      ],
      podCidrFaults: new Map([
        ['c', fault('ipam.pool.used-up')],
        ['b', fault('ipam.pool.overlap')],
      ]),
    }),
  )
  assert.deepEqual(
    found.map(({ reason, node: name, sentence, remedy }) => [reason, name, sentence, remedy]),
    [['PodCIDRPoolUsedUp', 'c', 'the pool is used up', 'add one']],
  )
})
