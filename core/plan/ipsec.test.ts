import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { TABLE_ENCRYPT_MARKED, TABLE_OVERLAY, TABLE_POD_STEERING, TABLE_STEERING } from '#core/host/host-plan.ts'
import type { IpsecShape } from '#core/ipsec/shape.ts'
import type { Level } from '#core/transition/level.ts'
import {
  bootIdOf,
  CONFIG,
  endpointOf,
  internalIpsOf,
  ipsecConfig,
  ipsecPeerOf,
  KEY_3,
  KEY_4,
  nodeIpsOf,
  ownIpsecOf,
  peerOf,
  snapshotOf,
} from '#test/kit/snapshots.ts'
import { type Plan, plan } from './plan.ts'
import { podNetwork } from './pod-network.ts'
import type { Peer, Snapshot } from './snapshot.ts'

type Usable = Extract<Plan, { usable: true }>

// Longer than other files: the four shapes are held against the same expectations, side by side.
function planned(snapshot: Snapshot): Usable {
  const result = plan(snapshot)
  assert.ok(result.usable, JSON.stringify(result))
  return result
}

const SHAPES = ['udp', 'esp', 'esp-in-vxlan', 'vxlan-in-esp'] as const satisfies readonly IpsecShape[]
const table = (p: Usable) => p.host.tables.find((t) => t.name === 'pellicle')!.body
const chain = (p: Usable, name: string) => new RegExp(`chain ${name} \\{\\n([^]*?)\\n\\}`).exec(table(p))?.[1] ?? ''
const codes = (p: Plan) => p.problems.map(({ code, object }) => `${code} ${object}`)
const linkNames = (p: Usable) => p.host.links.map((l) => `${l.kind} ${l.name} ${l.mtu}`)
const deviceTo = (p: Usable, prefix: string) =>
  p.host.routes.filter((r) => r.destination === prefix).map((r) => `${r.table} ${r.device}`)
const POD_RULES = ([4, 6] as const).flatMap((family) => [`${family} 202 false 0 202`, `${family} 202 false c00 202`])
const closed = (shape: IpsecShape, peers: readonly Peer[] = [ipsecPeerOf(2, 3)], change = {}) =>
  planned(snapshotOf(1, 3, peers, { config: ipsecConfig(shape), ...change }))

for (const [shape, encapsulation, mtu] of [
  ['udp', 'udp', 1390],
  ['esp', 'none', 1390],
] as const) {
  test(`${shape}: pods are steered into the device, ESP goes between node IPs`, () => {
    const p = closed(shape)
    assert.equal(p.wireguard, undefined)
    assert.deepEqual(p.ipsec, {
      name: 'pellicle_ipsec',
      mtu,
      mark: 0xe00,
      udpPort: 4500,
      bootId: bootIdOf(1),
      peers: [
        {
          node: 'node-2',
          bootId: bootIdOf(2),
          source: '172.18.0.3',
          destination: '172.18.0.4',
          encapsulation,
          allowedIps: [
            '10.244.2.0/24',
            'fd00:10:244:2::/64',
            '10.244.2.1/32',
            'fd00:10:244:2::1/128',
            '172.18.0.4/32',
            'fc00:18::4/128',
          ],
          receive: [KEY_3],
          send: KEY_3,
        },
      ],
    })
    assert.deepEqual(linkNames(p), ['veth cilium_host 1500', `given pellicle_ipsec ${mtu}`, 'given lxc1x10 1420'])
    assert.deepEqual(deviceTo(p, '10.244.2.0/24'), ['201 pellicle_ipsec'])
    assert.deepEqual(
      deviceTo(p, '172.18.0.4/32'),
      ['202 pellicle_ipsec'],
      'of hosts what pods ask, without nodeEncryption',
    )
    assert.ok(!p.host.rules.some((rule) => rule.table === TABLE_ENCRYPT_MARKED))
    assert.doesNotMatch(table(p), /cilium_wg0|cilium_vxlan/)
    assert.match(chain(p, 'into_encryption'), /meta mark & 0xf00 == 0xe00 counter name loop drop/)
  })
}

test('esp-in-vxlan: ESP goes between internal IPs, by the marked table and cilium_vxlan', () => {
  const p = closed('esp-in-vxlan')
  const [peer] = p.ipsec!.peers
  assert.deepEqual([peer?.source, peer?.destination, peer?.encapsulation], ['10.244.1.1', '10.244.2.1', 'none'])
  assert.deepEqual(linkNames(p), [
    'veth cilium_host 1500',
    'vxlan cilium_vxlan 1450',
    'given pellicle_ipsec 1342',
    'given lxc1x10 1420',
  ])
  assert.deepEqual(deviceTo(p, '10.244.2.0/24'), ['201 pellicle_ipsec'])
  assert.deepEqual(
    p.host.routes
      .filter((r) => r.table === TABLE_ENCRYPT_MARKED)
      .map((r) => `${r.type} ${r.destination} ${r.device} ${r.mtu}`),
    [
      'unreachable 10.224.0.0/11 undefined undefined',
      'unreachable fd00:10:244::/48 undefined undefined',
      'unicast 10.244.2.1/32 cilium_vxlan 1450',
    ],
  )
  assert.deepEqual(
    p.host.rules.map((r) => `${r.family} ${r.priority} ${r.invert} ${r.mark.toString(16)} ${r.table}`),
    ['4 200 false e00 200', '6 200 false e00 200', '4 201 true e00 201', '6 201 true e00 201', ...POD_RULES],
  )
  assert.deepEqual(p.host.fdb, [{ device: 'cilium_vxlan', mac: '0e:04:0a:f4:02:01', destination: '172.18.0.4' }])
  assert.deepEqual(
    p.host.neighbours.filter((n) => n.device === 'cilium_vxlan').map((n) => n.ip),
    ['10.244.2.1', 'fd00:10:244:2::1'],
  )
  assert.ok(p.host.sysctls.some((s) => s.path === 'net/ipv4/conf/cilium_vxlan/rp_filter' && s.value === '0'))
})

test('esp-in-vxlan: closed, only ESP between internal IPs comes out of cilium_vxlan, and only marked ESP goes in', () => {
  const p = closed('esp-in-vxlan')
  assert.match(table(p), /set ends4 \{ type ipv4_addr; elements = \{ 10\.244\.2\.1 \}; \}/)
  assert.equal(
    chain(p, 'from_vxlan').split('\n').slice(0, 3).join('\n'),
    `  meta l4proto esp ip saddr @ends4 ip daddr 10.244.1.1 accept
  meta l4proto esp ip6 saddr @ends6 ip6 daddr fd00:10:244:1::1 accept
  counter name entered_in_clear drop`,
  )
  assert.equal(
    chain(p, 'into_vxlan'),
    `  meta mark & 0xf00 == 0xe00 meta l4proto esp ip daddr @ends4 accept
  meta mark & 0xf00 == 0xe00 meta l4proto esp ip6 daddr @ends6 accept
  counter name would_leave_in_clear drop`,
  )
  const leave = chain(p, 'leave').split('\n')
  assert.ok(leave[2]?.includes('"cilium_vxlan" goto into_vxlan'), 'before anything that accepts')
  // on the way there both are still sent and taken
  const between = planned(snapshotOf(1, 2, [ipsecPeerOf(2, 1)], { config: ipsecConfig('esp-in-vxlan') }))
  assert.doesNotMatch(table(between), /into_vxlan|@ends4/)
  assert.match(chain(between, 'from_vxlan'), /vxlan_wrong_source/)
})

test('vxlan-in-esp: pods go into cilium_vxlan, and what that sends into the device, between node IPs', () => {
  const p = closed('vxlan-in-esp')
  const [peer] = p.ipsec!.peers
  assert.deepEqual([peer?.source, peer?.destination, peer?.encapsulation], ['172.18.0.3', '172.18.0.4', 'none'])
  assert.deepEqual(linkNames(p), [
    'veth cilium_host 1500',
    'vxlan cilium_vxlan 1340',
    'given pellicle_ipsec 1390',
    'given lxc1x10 1420',
  ])
  assert.deepEqual(deviceTo(p, '10.244.2.0/24'), ['201 cilium_vxlan'])
  const toHost = ['202 pellicle_ipsec', '203 pellicle_ipsec', '203 undefined']
  assert.deepEqual(deviceTo(p, '172.18.0.4/32'), toHost, 'for pods, and for what is marked')
  assert.deepEqual(
    p.host.rules.map((r) => `${r.family} ${r.priority} ${r.invert} ${r.mark.toString(16)} ${r.table}`),
    ['4 200 false f00 203', '4 201 true e00 201', '6 201 true e00 201', ...POD_RULES],
  )
  assert.match(chain(p, 'overlay'), /udp dport 8472 ip daddr @overlay4 meta mark set meta mark & 0xfffff0ff \| 0xf00/)
  assert.match(table(p), /set overlay4 \{ type ipv4_addr; elements = \{ 172\.18\.0\.4 \}; \}/)
  const [first, , , , , , , , last] = chain(p, 'enter')
    .split('\n')
    .filter((line) => line.includes('8472'))
  assert.match(first ?? '', /"pellicle_ipsec" udp dport 8472 fib daddr type local ip saddr @nodes4 accept/)
  assert.match(last ?? '', /^ {2}udp dport 8472 fib daddr type local counter name entered_in_clear drop/)
  const leave = chain(p, 'leave')
  assert.match(leave, /udp dport 8472 ip daddr @nodes4 counter name would_leave_in_clear drop/)
  // a peer that is not spoken to encrypted yet gets its VXLAN as it is
  const peers = [ipsecPeerOf(2, 0), ipsecPeerOf(3, 2)]
  const between = planned(snapshotOf(1, 2, peers, { config: ipsecConfig('vxlan-in-esp') }))
  assert.match(table(between), /set overlay4 \{ type ipv4_addr; elements = \{ 172\.18\.0\.5 \}; \}/)
  const narrow = plan(
    snapshotOf(1, 3, [], { config: { ...ipsecConfig('vxlan-in-esp'), mark: { bits: 0x100, mask: 0x100 } } }),
  )
  assert.deepEqual(codes(narrow), ['config.mark.too-narrow ConfigMap/cilium-config'])
})

test('what carries the encrypted packets is let in where hosts are closed', () => {
  const nodeEncryption = (shape: IpsecShape) =>
    closed(shape, [ipsecPeerOf(2, 3, { encryptsHosts: true })], {
      config: ipsecConfig(shape, { nodeEncryption: true }),
    })
  for (const [shape, carrier] of [
    ['udp', 'udp dport 4500 accept'],
    ['udp', 'meta l4proto esp accept'],
    ['esp', 'meta l4proto esp accept'],
    ['esp', 'udp dport 4500 accept'],
    ['esp-in-vxlan', 'udp dport 8472 accept'],
    ['vxlan-in-esp', 'meta l4proto esp accept'],
  ] as const) {
    const p = nodeEncryption(shape)
    assert.deepEqual(deviceTo(p, '172.18.0.4/32').slice(0, 2), ['202 pellicle_ipsec', '201 pellicle_ipsec'])
    const rules = chain(p, 'enter')
    const at = rules.indexOf(carrier)
    assert.ok(at > 0 && at < rules.indexOf('host_entered_in_clear'), shape)
    assert.ok(!rules.includes('51871'))
    assert.match(chain(p, 'leave'), /meta mark & 0xf00 == 0xe00 accept/)
    // VXLAN of strangers is refused before
    if (shape === 'esp-in-vxlan') assert.ok(rules.lastIndexOf('vxlan_from_stranger') < at)
    assert.equal(p.announce.encryptsHosts, true)
  }
})

test('the way to a peer follows both levels, and a common key', () => {
  const I = '201 pellicle_ipsec'
  const V = '254 cilium_vxlan'
  for (const shape of ['udp', 'esp', 'esp-in-vxlan'] as const) {
    for (const [own, theirs, expected] of [
      [0, 0, [V]],
      [1, 1, [V]],
      [1, 2, [V]],
      [2, 0, [V]],
      [2, undefined, [V]],
      [2, 1, [I]],
      [2, 3, [I]],
      [3, 1, [I]],
      [3, undefined, []],
    ] as [Level, Level | undefined, string[]][]) {
      const p = planned(snapshotOf(1, own, [ipsecPeerOf(2, theirs)], { config: ipsecConfig(shape) }))
      assert.deepEqual(deviceTo(p, '10.244.2.0/24'), expected, `${shape} ${own} ${theirs}`)
      assert.equal(p.ipsec === undefined, own === 0)
      // the tunnel is there before anything is sent by it, so that both have heard of each other
      assert.equal(p.ipsec?.peers.length ?? 0, own >= 1 && (theirs ?? 0) >= 1 ? 1 : 0)
    }
    const without = (own: Level, theirs: Level = 3) =>
      planned(
        snapshotOf(1, own, [ipsecPeerOf(2, theirs, {}, [KEY_4])], {
          config: ipsecConfig(shape),
          self: { ipsec: { ...ownIpsecOf(1, []), sendBy: {} } },
        }),
      )
    assert.deepEqual(
      deviceTo(without(2, 2), '10.244.2.0/24'),
      [V],
      'clear is better than waiting, as long as it may be',
    )
    assert.deepEqual(deviceTo(without(2, 3), '10.244.2.0/24'), [I], 'a closed peer drops what is in clear')
    assert.deepEqual(deviceTo(without(3), '10.244.2.0/24'), [I], 'closed: it waits in the datapath')
    assert.equal(without(3).ipsec?.peers[0]?.send, undefined)
    assert.deepEqual(codes(without(3)), ['peer.key.not-common CiliumNode/node-2'])
  }
})

test('what is wrong with keys and boot ids is told', () => {
  for (const [change, self, expected, peers] of [
    [{ ipsec: undefined }, {}, ['peer.key.missing CiliumNode/node-2'], 0],
    [{ bootId: 'x' }, {}, ['peer.boot-id.invalid CiliumNode/node-2'], 0],
    [{ bootId: undefined }, {}, [], 0],
    [{ granted: undefined }, {}, ['peer.node.missing CiliumNode/node-2'], 0],
    [
      { ipsec: { receives: [{ ...KEY_4, id: 3 }], sends: [] } },
      { ipsec: { ...ownIpsecOf(1, []), sendBy: {} } },
      ['peer.key.different CiliumNode/node-2'],
      1,
    ],
    // not sent to yet, as two that have just met
    [{}, { ipsec: { ...ownIpsecOf(1, []), sendBy: {} } }, [], 1],
    [{}, { ipsec: undefined }, ['node.key.missing CiliumNode/node-1'], undefined],
    [
      {},
      { ipsec: { ...ownIpsecOf(1, []), receive: [] } },
      ['node.key.missing CiliumNode/node-1', 'peer.key.not-common CiliumNode/node-2'],
      1,
    ],
  ] as [Partial<Peer>, Partial<Snapshot['self']>, string[], number | undefined][]) {
    const p = closed('udp', [ipsecPeerOf(2, 3, change)], { self })
    assert.deepEqual(codes(p), expected)
    assert.ok(p.problems.every(({ remedy, message }) => remedy !== '' && message !== ''))
    assert.equal(p.ipsec?.peers.length, peers)
    assert.deepEqual(deviceTo(p, '10.244.2.0/24'), peers === 1 ? ['201 pellicle_ipsec'] : [])
  }
})

test('what this node says: the newest key that it receives by, its words and its boot id', () => {
  const keys = [KEY_3, KEY_4]
  const self = { ipsec: ownIpsecOf(1, [], keys) }
  const p = closed('udp', [], { self })
  assert.deepEqual(p.announce.ipsec, { receives: keys, sends: keys })
  assert.deepEqual([p.announce.keyId, p.announce.bootId, p.announce.publicKey], [4, bootIdOf(1), undefined])
  const out = closed('udp', [], {
    config: ipsecConfig('udp', { nodeEncryption: true }),
    self: { ...self, optedOut: true },
  })
  assert.deepEqual([out.announce.keyId, out.announce.ipsec?.receives.length], [0, 2])
  // before the device is there nothing is promised, but its boot id can be known
  const clear = planned(snapshotOf(1, 0, [], { config: ipsecConfig('udp'), self }))
  assert.deepEqual([clear.announce.keyId, clear.announce.ipsec, clear.announce.bootId], [0, undefined, bootIdOf(1)])
  const wireguard = planned(snapshotOf(1, 3, [peerOf(2, 3)], { self }))
  assert.deepEqual(
    [wireguard.announce.ipsec, wireguard.announce.bootId, wireguard.ipsec],
    [undefined, undefined, undefined],
  )
})

/** RFC 4303 figures 1 and 2: what one packet of `inner` bytes becomes, without the IP header. */
function espBytes(inner: number, { iv, icv, align }: { iv: number; icv: number; align: number }): number {
  return 8 + iv + Math.ceil((inner + 2) / align) * align + icv
}

test('a full packet fits by every algorithm, and the largest overhead leaves no room for more', () => {
  const algorithms = [
    { iv: 8, icv: 16, align: 4 },
    { iv: 16, icv: 16, align: 16 },
    { iv: 16, icv: 24, align: 16 },
    { iv: 16, icv: 32, align: 16 },
  ]
  const of = { 4: { 4: 20, vxlan: 50 }, 6: { 6: 40, vxlan: 70 } }
  for (const shape of SHAPES) {
    for (const family of [4, 6] as const) {
      for (const underlayMtu of [1500, 1450, 9001, 8950, 1499]) {
        const only = { [family]: nodeIpsOf(1)[family] }
        const inside = { [family]: internalIpsOf(1)[family] }
        const self = { nodeIps: only, internalIps: inside, underlayMtu }
        const p = closed(shape, [ipsecPeerOf(2, 3)], { self })
        const mtu = p.ipsec!.mtu
        const header = family === 4 ? 20 : 40
        const around = (shape === 'udp' ? 8 : 0) + header + (shape === 'esp-in-vxlan' ? of[family].vxlan : 0)
        const largest = (inner: number) => Math.max(...algorithms.map((a) => espBytes(inner, a))) + around
        assert.ok(largest(mtu) <= underlayMtu && largest(mtu + 1) > underlayMtu, `${shape} ${family} ${underlayMtu}`)
        const snapshot = snapshotOf(1, 3, [], { config: ipsecConfig(shape), self })
        const pods = podNetwork(snapshot, {
          device: 'eth0',
          ips: { [family]: endpointOf(1, 10).ips[family] },
          hostMac: endpointOf(1, 10).mac,
        })
        const route = pods.routes.find((r) => r.mtu !== undefined)?.mtu ?? 0
        assert.ok(route <= (shape === 'vxlan-in-esp' ? mtu - of[family].vxlan : mtu), 'pods never send too much')
        assert.equal(pods.mtu, p.host.links.find((l) => l.name === 'lxc1x10')?.mtu, 'both ends of the veth pair')
      }
    }
  }
})

test("a pod's device never changes its MTU, nor its route by encryption being toggled or UDP put around it", () => {
  const pods = (level: Level, config: Partial<Snapshot['config']>) => {
    const snapshot = snapshotOf(1, level, [], { config })
    const { ips, mac } = endpointOf(1, 10)
    const { mtu, routes } = podNetwork(snapshot, { device: 'eth0', ips, hostMac: mac })
    return [mtu, planned(snapshot).host.links.find((l) => l.name === 'lxc1x10')?.mtu, routes[1]?.mtu]
  }
  const udp = pods(3, ipsecConfig('udp'))
  assert.deepEqual(udp, [1420, 1420, 1390])
  assert.deepEqual(pods(0, ipsecConfig('udp', { enabled: false })), udp)
  assert.deepEqual(pods(3, ipsecConfig('esp')), udp)
  assert.deepEqual(pods(3, {}), [1420, 1420, 1420])
  for (const level of [0, 1, 2, 3] as const) assert.deepEqual(pods(level, ipsecConfig('esp-in-vxlan'))[2], 1342)
})

const anyPeers = fc
  .array(
    fc.record({
      level: fc.constantFrom<(Level | undefined)[]>(undefined, 0, 1, 2, 3),
      key: fc.constantFrom([KEY_3], [KEY_3, KEY_4], [KEY_4], []),
      boot: fc.constantFrom('rubbish', undefined),
      optedOut: fc.boolean(),
    }),
    { maxLength: 10 },
  )
  .map((list) =>
    list.map(({ level, key, boot, optedOut }, n) =>
      ipsecPeerOf(
        n + 2,
        level,
        { ...(boot === undefined ? {} : { bootId: boot }), ...(optedOut ? { encryptionKey: 0 } : {}) },
        key,
      ),
    ),
  )

test('no plan of a closed node has a way for a remote pod outside the device, nor one into it for what is marked', () => {
  const shape = fc.constantFrom(...SHAPES)
  fc.assert(
    fc.property(anyPeers, shape, fc.boolean(), (peers, way, nodeEncryption) => {
      const p = planned(snapshotOf(1, 3, peers, { config: ipsecConfig(way, { nodeEncryption }) }))
      for (const route of p.host.routes) {
        if (route.type !== 'unicast' || route.device?.startsWith('lxc')) continue
        const isHost = route.destination.startsWith('172.') || route.destination.startsWith('fc00:')
        const inVxlan = way === 'vxlan-in-esp' ? !isHost : route.table === TABLE_ENCRYPT_MARKED
        assert.equal(route.device, inVxlan ? 'cilium_vxlan' : 'pellicle_ipsec')
        const tables = [TABLE_STEERING, TABLE_ENCRYPT_MARKED, TABLE_OVERLAY, ...(isHost ? [TABLE_POD_STEERING] : [])]
        assert.ok(tables.includes(route.table))
        if (route.table !== TABLE_ENCRYPT_MARKED) continue
        assert.ok(peers.some((peer) => route.destination === `${peer.internalIps[4]}/32`))
      }
      assert.equal(
        p.host.links.some((link) => link.kind === 'vxlan'),
        way.includes('vxlan'),
      )
      const allowed = p.ipsec!.peers.flatMap((peer) => peer.allowedIps)
      assert.equal(new Set(allowed).size, allowed.length, 'no prefix belongs to two peers')
    }),
    { seed: 5, numRuns: 300 },
  )
})

test('a new peer touches no other, and a pod no peer', () => {
  const old = Array.from({ length: 20 }, (_, n) => ipsecPeerOf(n + 2, 3))
  const config = { ...CONFIG, ...ipsecConfig('esp-in-vxlan') }
  const more = [...old, ipsecPeerOf(30, 3)]
  const base = { ...snapshotOf(1, 3, old, { self: { ipsec: ownIpsecOf(1, more), publicKey: undefined } }), config }
  const before = planned(base)
  const after = planned({ ...base, peers: more })
  assert.equal(after.ipsec?.peers.filter((peer) => before.ipsec?.peers.includes(peer)).length, 20)
  const pod = planned({ ...base, endpoints: [...base.endpoints, endpointOf(1, 11)] })
  assert.equal(pod.ipsec?.peers, before.ipsec?.peers)
  assert.equal(pod.host.tables[0], before.host.tables[0])
})

test('by the kernel: what XFRM is about to encrypt is let out, before anything drops; for the engine nothing is', () => {
  for (const shape of SHAPES) {
    const by = (change: object) =>
      planned(snapshotOf(1, 3, [ipsecPeerOf(2, 3)], { config: ipsecConfig(shape, change) }))
    const [kernel, engine] = [by({ byKernel: true }), by({})]
    const leave = chain(kernel, 'leave').split('\n')
    const rule = leave.findIndex((line) => line.trim() === 'rt ipsec exists accept')
    const first = leave.findIndex((line) => / drop$|goto into_vxlan/.test(line))
    assert.ok(rule >= 0 && rule < first, leave.join('\n'))
    assert.equal(table(kernel).replace(/\n *rt ipsec exists accept/, ''), table(engine))
  }
  // WireGuard's device takes packets and says nothing more of them
  const { encryption } = CONFIG
  const config = { encryption: { ...encryption, byKernel: true as const } }
  assert.doesNotMatch(table(planned(snapshotOf(1, 3, [peerOf(2, 3)], { config }))), /rt ipsec/)
})

test('auto: UDP between two engines only, and whichever end looks comes to the same', () => {
  const way = (own: boolean, peer: boolean, auto: boolean) => {
    const { encryption } = ipsecConfig('udp', own ? { byKernel: true } : {})
    const ipsec = { ...encryption.ipsec, ...(auto ? { udpByEngines: true as const } : {}) }
    const peers = [ipsecPeerOf(2, 3, peer ? { byKernel: true } : {})]
    const p = planned(
      snapshotOf(1, 3, peers, { config: { encryption: { ...encryption, ipsec, nodeEncryption: true } } }),
    )
    return p.ipsec?.peers[0]?.encapsulation
  }
  for (const [own, peer] of [
    [true, true],
    [true, false],
    [false, true],
  ] as const) {
    assert.equal(way(own, peer, true), 'none')
    assert.equal(way(own, peer, false), 'udp')
  }
  assert.equal(way(false, false, true), 'udp')
})
