import assert from 'node:assert/strict'
import { test } from 'node:test'
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
} from '#test/kit/snapshots.ts'
import { plan } from './plan.ts'
import type { Peer } from './snapshot.ts'

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

const SETS = ['guarded4', 'answered4', 'asking4', 'hosts4'] as const

/** By name: the addresses in that set of a node's table, and which tables have a route to node 2. */
function toHosts(own: Level, peers: readonly Peer[], change: Parameters<typeof snapshotOf>[3] = {}) {
  const p = plan(snapshotOf(1, own, peers, change))
  assert.ok(p.usable)
  const body = p.host.tables[0]?.body ?? ''
  const elements = (name: string) =>
    new RegExp(`set ${name} \\{ type ipv4_addr; elements = \\{ ([^}]*) \\}`).exec(body)?.[1]
  const tables = p.host.routes.filter((r) => r.destination === '172.18.0.4/32' && r.device !== undefined)
  return {
    body,
    ...(Object.fromEntries(SETS.map((name) => [name, elements(name) ?? ''])) as Record<(typeof SETS)[number], string>),
    tables: tables.map((r) => r.table).filter((table) => table !== 203),
  }
}

test('what pods ask other nodes follows both levels as what they say to pods, and answers wait for the other end', () => {
  for (const [own, theirs, tables, answered] of [
    [0, 3, [], ''],
    [1, 2, [], ''],
    [2, 0, [], ''],
    [2, 1, [202], ''],
    [2, 2, [202], '172.18.0.4'],
    [2, 3, [202], '172.18.0.4'],
    [3, 1, [202], '172.18.0.4'],
    [3, 3, [202], '172.18.0.4'],
  ] as [Level, Level, number[], string][]) {
    for (const [config, peer] of [
      [{}, peerOf(2, theirs)],
      ...(['udp', 'esp', 'esp-in-vxlan', 'vxlan-in-esp'] as const).map((s) => [ipsecConfig(s), ipsecPeerOf(2, theirs)]),
    ] as [object, Peer][]) {
      const found = toHosts(own, [peer], { config })
      assert.deepEqual([found.tables, found.answered4, found.asking4], [tables, answered, answered], `${own} ${theirs}`)
      assert.equal(/ct original ip saddr 10\.244\.1\.0\/24 ip daddr @guarded4 .* drop/.test(found.body), own === 3)
      assert.equal(/chain answer \{/.test(found.body), own >= 2)
    }
  }
})

test('with nodeEncryption both ways are there, and what comes encrypted tells no pod from its node', () => {
  const found = toHosts(3, [peerOf(2, 3)], { config })
  assert.deepEqual(
    [found.tables, found.answered4, found.asking4, found.hosts4],
    [[202, 201], '172.18.0.4', '', '172.18.0.4'],
  )
  for (const change of [{ config, self: { optedOut: true } }, { config: {} }]) {
    const pods = toHosts(3, [peerOf(2, 3)], change)
    assert.deepEqual([pods.tables, pods.answered4, pods.asking4, pods.hosts4], [[202], '172.18.0.4', '172.18.0.4', ''])
  }
})

test('whoever cannot be spoken to encrypted is not spoken to by pods, opted out or not', () => {
  const lost = { publicKeyText: undefined, encryptionKey: 0 }
  for (const [what, peers, guarded4] of [
    ['no key', [peerOf(2, 3, { ...lost, granted: grantOf(2) })], '172.18.0.4'],
    ['no key, opted out', [peerOf(2, 3, { ...lost, granted: grantOf(2, { optedOut: true }) })], '172.18.0.4'],
    ['an address that another has too', [peerOf(2, 3), peerOf(3, 3, { nodeIps: nodeIpsOf(2) })], '172.18.0.4'],
    ['this node’s own', [peerOf(2, 3, { nodeIps: nodeIpsOf(1) })], ''],
  ] as [string, Peer[], string][]) {
    for (const nodeEncryption of [false, true]) {
      const found = toHosts(3, peers, { config: { encryption: { ...CONFIG.encryption, nodeEncryption } } })
      assert.equal(found.guarded4, guarded4, what)
      assert.deepEqual(found.tables, [], what)
    }
  }
})

test('a mask that leaves no marks for answers is refused, any that does gives different ones', () => {
  for (const [bits, mask, good] of [
    [0xe00, 0xf00, true],
    [0x100, 0x300, true],
    [0x300, 0x300, true],
    [0x10000, 0x30000, true],
    [0x100, 0x100, false],
  ] as const) {
    const p = plan(
      snapshotOf(1, 3, [peerOf(2, 3)], { config: { mark: { bits, mask } }, endpoints: [endpointOf(1, 10)] }),
    )
    assert.equal(p.usable, good, `${bits}/${mask}`)
    if (!p.usable) continue
    const used = p.host.rules.map((rule) => rule.mark).filter((mark) => mark !== 0 && mark !== bits)
    assert.equal(new Set(used).size, 1)
    assert.ok(used.every((mark) => (mark & ~mask) === 0))
  }
})
