import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { IpsecShape } from '#core/ipsec/shape.ts'
import type { Level } from '#core/transition/level.ts'
import {
  CONFIG,
  endpointOf,
  ip,
  ipsecConfig,
  ipsecPeerOf,
  keyOf,
  nodeIpsOf,
  peerOf,
  podCidrsOf,
  snapshotOf,
  stagePeerOf,
  stageSnapshotOf,
} from '#test/kit/snapshots.ts'
import { plan } from './plan.ts'
import type { Peer, Snapshot } from './snapshot.ts'

const config = { encryption: { ...CONFIG.encryption, nodeEncryption: true } }
const grantOf = (n: number, change: Partial<Peer['granted']> = {}) => ({
  podCidrs: podCidrsOf(n),
  nodeIps: Object.values(nodeIpsOf(n)),
  optedOut: false,
  ...change,
})

/** IPv4 addresses that a closed node with `nodeEncryption` never sends to in clear. */
function guarded(...peers: Peer[]): string[] {
  const p = plan(snapshotOf(1, 3, peers, { config }))
  assert.ok(p.usable)
  const body = p.host.tables[0]?.body ?? ''
  assert.match(body, /ip daddr @hosts4 counter name host_would_leave_in_clear drop/)
  const list = /set hosts4 \{ type ipv4_addr;(?: elements = \{ ([^}]*) \};)? \}/.exec(body)
  assert.ok(list)
  return list[1]?.split(', ') ?? []
}

test('whoever cannot be spoken to encrypted, without being opted out, is not spoken to in clear', () => {
  const none = { publicKeyText: undefined, encryptionKey: 0, granted: grantOf(2) }
  for (const [what, peers, expected] of [
    ['no key, which says 0 as well', [peerOf(2, 3, none)], ['172.18.0.4']],
    ['cleaned, nothing announced', [peerOf(2, undefined, { granted: grantOf(2) })], ['172.18.0.4']],
    ['no key at all', [peerOf(2, 3, { publicKeyText: 'nonsense' })], ['172.18.0.4']],
    [
      'a key that another stole',
      [peerOf(2, 3), peerOf(3, 3, { publicKeyText: keyOf(2) })],
      ['172.18.0.4', '172.18.0.5'],
    ],
    ['an address that another has too', [peerOf(2, 3), peerOf(3, 3, { nodeIps: nodeIpsOf(2) })], ['172.18.0.4']],
    ['its Node was deleted', [peerOf(2, 3, { granted: undefined })], ['172.18.0.4']],
    ['an address that its Node has not', [peerOf(2, 3, { nodeIps: { 4: ip('1.1.1.1') }, granted: grantOf(2) })], []],
  ] as [string, Peer[], string[]][]) {
    assert.deepEqual(guarded(...peers), expected, what)
  }
})

test('the opted-out control plane is reached in clear: also without its key, and whoever claims its address', () => {
  const lost = { publicKeyText: undefined, encryptionKey: 0, granted: grantOf(2, { optedOut: true }) }
  assert.deepEqual(guarded(peerOf(2, 3, lost)), [])
  assert.deepEqual(guarded(peerOf(2, 3, { encryptionKey: 0 })), [], 'it says so itself')
  const thief = peerOf(3, 3, { nodeIps: nodeIpsOf(2) })
  assert.deepEqual(guarded(peerOf(2, 3, { encryptionKey: 0 }), thief), [])
  assert.deepEqual(guarded(peerOf(2, 3, lost), thief), [])
  assert.deepEqual(guarded(peerOf(3, 3, { nodeIps: nodeIpsOf(1) })), [], 'nor this node itself')
})

const SHAPES = ['udp', 'esp', 'esp-in-vxlan', 'vxlan-in-esp'] as const satisfies readonly IpsecShape[]
const SETS = ['asked4', 'guarded4', 'answered4', 'asking4', 'hosts4'] as const

/** By name: the addresses in that set of a node's table (none: no such set), and the routes to node 2 itself. */
function toHosts(snapshot: Snapshot) {
  const p = plan(snapshot)
  assert.ok(p.usable)
  const body = p.host.tables[0]?.body ?? ''
  const elements = (name: string) => {
    const found = new RegExp(`set ${name} \\{ type ipv4_addr;(?: elements = \\{ ([^}]*) \\};)? \\}`).exec(body)
    return found === null ? 'none' : (found[1] ?? '')
  }
  const tables = p.host.routes.filter((r) => r.destination === '172.18.0.4/32' && r.device !== undefined)
  return {
    body,
    rules: p.host.rules.filter(({ table }) => table === 202).length,
    ...(Object.fromEntries(SETS.map((name) => [name, elements(name)])) as Record<(typeof SETS)[number], string>),
    routes: tables.filter(({ table }) => table !== 203).map((r) => `${r.table} ${r.device}`),
  }
}

const NODE2 = '172.18.0.4'
const BY_IPSEC = '202 pellicle_ipsec'

test('with IPsec, what pods ask other nodes follows both levels as what they say to pods; answers wait for the other end', () => {
  for (const [own, theirs, routes, answered] of [
    [0, 3, [], 'none'],
    [1, 2, [], 'none'],
    [2, 0, [], ''],
    [2, 1, [BY_IPSEC], ''],
    [2, 2, [BY_IPSEC], NODE2],
    [2, 3, [BY_IPSEC], NODE2],
    [3, 1, [BY_IPSEC], NODE2],
    [3, 3, [BY_IPSEC], NODE2],
  ] as [Level, Level, string[], string][]) {
    for (const shape of SHAPES) {
      const found = toHosts(snapshotOf(1, own, [ipsecPeerOf(2, theirs)], { config: ipsecConfig(shape) }))
      const what = `${shape} ${own} ${theirs}`
      assert.deepEqual([found.routes, found.answered4, found.asking4], [routes, answered, answered], what)
      assert.equal(/ct original ip saddr 10\.244\.1\.0\/24 ip daddr @guarded4 .* drop/.test(found.body), own === 3)
      assert.equal(/chain answer \{/.test(found.body), own >= 2)
      assert.equal(found.rules, own === 0 ? 0 : 4)
    }
  }
})

test('with WireGuard there is nothing of it', () => {
  for (const own of [1, 2, 3] as const)
    for (const nodeEncryption of [false, true]) {
      const encryption = { ...CONFIG.encryption, nodeEncryption }
      const found = toHosts(snapshotOf(1, own, [peerOf(2, 3)], { config: { encryption } }))
      assert.deepEqual([found.asked4, found.guarded4, found.answered4, found.asking4], ['none', 'none', 'none', 'none'])
      assert.equal(found.rules, 0)
      assert.deepEqual(found.routes, nodeEncryption && own > 1 ? ['201 cilium_wg0'] : [])
      assert.doesNotMatch(found.body, /ct mark|redirect|maxseg/)
    }
})

test('a change of the mode is for it what the levels are: the lower of level and stage counts, of both ends', () => {
  for (const [own, theirs, routes, answered] of [
    [0, 0, [], 'none'],
    [1, 2, [], 'none'],
    [2, 0, [], ''],
    [2, 1, [BY_IPSEC], ''],
    [2, 2, [BY_IPSEC], NODE2],
    [2, 3, [BY_IPSEC], NODE2],
    [3, 2, [BY_IPSEC], NODE2],
    [3, 3, [BY_IPSEC], NODE2],
  ] as [Level, Level, string[], string][]) {
    for (const shape of SHAPES) {
      const staged = toHosts(stageSnapshotOf(1, 3, own, [stagePeerOf(2, 3, theirs)], shape))
      assert.deepEqual([staged.routes, staged.answered4], [routes, answered], `${shape} stages ${own} ${theirs}`)
      assert.equal(/daddr @guarded4 .*would_leave_in_clear drop/.test(staged.body), own === 3)
    }
  }
  const lower = toHosts(stageSnapshotOf(1, 2, 3, [stagePeerOf(2, 2, 3)], 'udp'))
  assert.deepEqual([lower.routes, lower.answered4, lower.guarded4], [[BY_IPSEC], NODE2, 'none'])
  const early = toHosts(stageSnapshotOf(1, 2, 2, [stagePeerOf(2, 1, 3)], 'udp'))
  assert.deepEqual([early.routes, early.answered4], [[BY_IPSEC], ''])
})

test('with nodeEncryption both ways are there, and what comes encrypted tells no pod from its node', () => {
  const nodes = ipsecConfig('udp', { nodeEncryption: true })
  const found = toHosts(snapshotOf(1, 3, [ipsecPeerOf(2, 3)], { config: nodes }))
  assert.deepEqual(found.routes, [BY_IPSEC, '201 pellicle_ipsec'])
  assert.deepEqual([found.asked4, found.answered4, found.asking4, found.hosts4], ['', NODE2, '', NODE2])
  const pods = toHosts(snapshotOf(1, 3, [ipsecPeerOf(2, 3)], { config: ipsecConfig('udp') }))
  assert.deepEqual(pods.routes, [BY_IPSEC])
  assert.deepEqual([pods.asked4, pods.answered4, pods.asking4, pods.hosts4], [NODE2, NODE2, NODE2, ''])
  // opted out itself: its pods keep their address; the other end: as without
  const out = toHosts(snapshotOf(1, 3, [ipsecPeerOf(2, 3)], { config: nodes, self: { optedOut: true } }))
  assert.deepEqual([out.routes, out.asked4, out.answered4, out.asking4], [[BY_IPSEC], '', NODE2, NODE2])
  const control = toHosts(snapshotOf(1, 3, [ipsecPeerOf(2, 3, { encryptionKey: 0 })], { config: nodes }))
  assert.deepEqual([control.routes, control.asked4, control.asking4, control.hosts4], [[BY_IPSEC], NODE2, NODE2, ''])
})

test('whoever cannot be spoken to by IPsec is not spoken to by pods, opted out or not', () => {
  const lost = { bootId: undefined, ipsec: undefined, encryptionKey: 0 }
  for (const [what, peers, guarded4] of [
    ['no key', [ipsecPeerOf(2, 3, { ...lost, granted: grantOf(2) })], NODE2],
    ['no key, opted out', [ipsecPeerOf(2, 3, { ...lost, granted: grantOf(2, { optedOut: true }) })], NODE2],
    ['an address that another has too', [ipsecPeerOf(2, 3), ipsecPeerOf(3, 3, { nodeIps: nodeIpsOf(2) })], NODE2],
    ['this node’s own', [ipsecPeerOf(2, 3, { nodeIps: nodeIpsOf(1) })], ''],
  ] as [string, Peer[], string][]) {
    for (const nodeEncryption of [false, true]) {
      const found = toHosts(snapshotOf(1, 3, peers, { config: ipsecConfig('udp', { nodeEncryption }) }))
      assert.equal(found.guarded4, guarded4, what)
      assert.deepEqual(found.routes, [], what)
    }
  }
})

test('a mask that leaves no marks for answers is refused with IPsec, any that does gives different ones', () => {
  for (const [bits, mask, good] of [
    [0xe00, 0xf00, true],
    [0x100, 0x300, true],
    [0x300, 0x300, true],
    [0x10000, 0x30000, true],
    [0x100, 0x100, false],
  ] as const) {
    const mark = { bits, mask }
    assert.ok(plan(snapshotOf(1, 3, [peerOf(2, 3)], { config: { mark } })).usable, 'with WireGuard')
    for (const shape of SHAPES) {
      const config = { ...ipsecConfig(shape), mark }
      const p = plan(snapshotOf(1, 3, [ipsecPeerOf(2, 3)], { config, endpoints: [endpointOf(1, 10)] }))
      assert.equal(p.usable, good, `${bits}/${mask}`)
      if (!p.usable) continue
      const used = p.host.rules.filter((rule) => rule.table > 201).map((rule) => rule.mark)
      const marks = new Set(used.filter((one) => one !== 0))
      assert.equal(marks.size, shape === 'vxlan-in-esp' ? 2 : 1)
      assert.ok([...marks].every((one) => one !== bits && (one & ~mask) === 0))
    }
  }
})

test('a closed node tells no other of a shorter way in clear, for that quotes the packet', () => {
  for (const [level, drops] of [
    [2, 0],
    [3, 2],
  ] as const) {
    const { body } = toHosts(snapshotOf(1, level, [ipsecPeerOf(2, level)], { config: ipsecConfig('esp') }))
    const found = body.match(/icmp(v6)? type (nd-)?redirect ip6? daddr @nodes[46] drop/g) ?? []
    assert.equal(found.length, drops)
  }
})
