import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { TABLE_STEERING } from '#core/host/host-plan.ts'
import { containsIp, networkOf } from '#core/ip/cidr.ts'
import type { Level } from '#core/transition/level.ts'
import { CONFIG, cidr, endpointOf, ip, keyOf, nodeIpsOf, peerOf, podCidrsOf, snapshotOf } from '#test/kit/snapshots.ts'
import { type Plan, plan } from './plan.ts'
import { podNetwork } from './pod-network.ts'
import type { Peer, PlanConfig, Snapshot } from './snapshot.ts'

type Usable = Extract<Plan, { usable: true }>

function planned(snapshot: Snapshot): Usable {
  const result = plan(snapshot)
  assert.ok(result.usable, JSON.stringify(result))
  return result
}

const nodeEncryption = { encryption: { ...CONFIG.encryption, nodeEncryption: true } }
const table = (p: Usable, name = 'pellicle') => p.host.tables.find((t) => t.name === name)!.body
const codes = (p: Plan) => p.problems.map(({ code, object }) => `${code} ${object}`)
const deviceTo = (p: Usable, prefix: string) =>
  p.host.routes.filter((r) => r.destination === prefix).map((r) => `${r.table} ${r.device}`)

test('clear: VXLAN with a route, a neighbour and an fdb entry per peer', () => {
  const p = planned(
    snapshotOf(1, 0, [peerOf(2, 0)], { config: { encryption: { ...CONFIG.encryption, enabled: false } } }),
  )
  assert.deepEqual(
    p.host.links.map((l) => `${l.kind} ${l.name} ${l.mtu} ${l.gsoMaxSize ?? '-'}`),
    ['veth cilium_host 1500 -', 'vxlan cilium_vxlan 1450 -', 'given lxc1x10 1420 59000'],
  )
  const vxlan = p.host.links[1]!
  assert.ok(vxlan.kind === 'vxlan' && vxlan.mac === '0e:04:0a:f4:01:01' && vxlan.local === '172.18.0.3')
  assert.deepEqual(
    p.host.routes.find((r) => r.destination === '10.244.2.0/24'),
    {
      table: 254,
      destination: '10.244.2.0/24',
      type: 'unicast',
      device: 'cilium_vxlan',
      via: '10.244.2.1',
      onlink: true,
      source: '10.244.1.1',
      metric: 1024,
      mtu: 1420,
    },
  )
  assert.deepEqual(p.host.fdb, [{ device: 'cilium_vxlan', mac: '0e:04:0a:f4:02:01', destination: '172.18.0.4' }])
  assert.deepEqual(
    p.host.neighbours.map((n) => `${n.device} ${n.ip} ${n.mac}`),
    [
      'lxc1x10 10.244.1.10 0e:04:0a:f4:01:0a',
      'lxc1x10 fd00:10:244:1::a 0e:04:0a:f4:01:0a',
      'cilium_vxlan 10.244.2.1 0e:04:0a:f4:02:01',
      'cilium_vxlan fd00:10:244:2::1 0e:04:0a:f4:02:01',
    ],
  )
  assert.deepEqual(p.host.rules, [])
  assert.equal(p.wireguard, undefined)
  assert.deepEqual([p.announce.publicKey, p.announce.keyId], [undefined, 0])
  assert.doesNotMatch(table(p), /in_clear/)
})

test('closed: nothing but the encryption device, one peer per key, and the drops', () => {
  const p = planned(snapshotOf(1, 3, [peerOf(2, 3), peerOf(3, 2)]))
  assert.deepEqual(
    p.host.links.map((l) => `${l.kind} ${l.name} ${l.mtu} ${l.gsoMaxSize ?? '-'}`),
    ['veth cilium_host 1500 -', 'given cilium_wg0 1420 59000', 'given lxc1x10 1420 59000'],
  )
  assert.deepEqual(p.wireguard, {
    name: 'cilium_wg0',
    listenPort: 51871,
    mark: 0xe00,
    mtu: 1420,
    peers: [2, 3].map((n) => ({
      publicKey: keyOf(n),
      endpoint: { ip: nodeIpsOf(n)[4], port: 51871 },
      allowedIps: [
        `10.244.${n}.0/24`,
        `fd00:10:244:${n}::/64`,
        `10.244.${n}.1/32`,
        `fd00:10:244:${n}::1/128`,
        `172.18.0.${n + 2}/32`,
        `fc00:18::${n + 2}/128`,
      ],
      persistentKeepalive: 0,
    })),
  })
  assert.deepEqual(
    p.host.rules.map(
      (r) => `${r.family} ${r.invert ? 'not' : ''} ${r.mark.toString(16)}/${r.mask.toString(16)} ${r.table}`,
    ),
    ['4 not e00/f00 201', '6 not e00/f00 201'],
  )
  assert.deepEqual(deviceTo(p, '10.244.2.0/24'), ['201 cilium_wg0'])
  assert.deepEqual(deviceTo(p, '172.18.0.4/32'), [], 'host addresses stay out without nodeEncryption')
  assert.match(table(p), /ip daddr 10\.224\.0\.0\/11 counter name would_leave_in_clear drop/)
  assert.match(table(p), /ip6 saddr fd00:10:244::\/48 counter name entered_in_clear drop/)
  assert.deepEqual(p.host.fdb, [])
  assert.deepEqual([p.announce.publicKey, p.announce.keyId], [keyOf(1), 255])
})

test('the way to a peer follows both levels', () => {
  const W = '201 cilium_wg0'
  const V = '254 cilium_vxlan'
  for (const [own, theirs, expected] of [
    [0, 0, [V]],
    [1, 1, [V]],
    [1, 2, [V]],
    [2, 0, [V]],
    [2, undefined, [V]],
    [2, 1, [W]],
    [2, 3, [W]],
    [3, 1, [W]],
    [3, undefined, []],
  ] as [Level, Level | undefined, string[]][]) {
    const p = planned(snapshotOf(1, own, [peerOf(2, theirs)]))
    assert.deepEqual(deviceTo(p, '10.244.2.0/24'), expected, `${own} ${theirs}`)
    assert.equal(p.wireguard === undefined, own === 0)
  }
})

test('nodeEncryption steers host addresses, unless one of the two nodes is opted out', () => {
  const peers = [peerOf(2, 3), peerOf(3, 3, { encryptionKey: 0 })]
  const p = planned(snapshotOf(1, 3, peers, { config: nodeEncryption }))
  assert.deepEqual(deviceTo(p, '172.18.0.4/32'), ['201 cilium_wg0'])
  assert.equal(p.host.routes.find((r) => r.destination === '172.18.0.4/32')?.source, '172.18.0.3')
  assert.deepEqual(deviceTo(p, '172.18.0.5/32'), [])
  assert.deepEqual(deviceTo(p, '10.244.3.0/24'), ['201 cilium_wg0'], 'pods of an opted-out node stay encrypted')
  assert.match(table(p), /set hosts4 \{ type ipv4_addr; elements = \{ 172\.18\.0\.4 \}; \}/)
  assert.ok(p.host.sysctls.some((s) => s.path === 'net/ipv4/conf/eth0/rp_filter' && s.value === '2'))
  const out = planned(snapshotOf(1, 3, peers, { config: nodeEncryption, self: { optedOut: true } }))
  assert.deepEqual(deviceTo(out, '172.18.0.4/32'), ['202 cilium_wg0'], 'its pods are not opted out')
  assert.deepEqual(
    out.host.rules.flatMap((rule) => (rule.source === undefined ? [] : `${rule.source} ${rule.table}`)),
    ['10.244.1.0/24 202', 'fd00:10:244:1::/64 202'],
  )
  assert.deepEqual([out.announce.keyId, out.announce.encryptsHosts], [0, false])
  assert.doesNotMatch(table(out), /host_would_leave/)
})

test('clear packets of another host are refused once it says that it sends none', () => {
  const refused = (own: Level, config: object, change: object = {}) =>
    /set refused4 \{ type ipv4_addr;( elements = )?/.exec(
      table(planned(snapshotOf(1, own, [peerOf(2, 3, { encryptsHosts: true, ...change })], { config }))),
    )?.[1] !== undefined
  assert.equal(refused(3, nodeEncryption), true)
  assert.equal(refused(3, nodeEncryption, { encryptsHosts: false }), false, 'it may not have been told yet')
  assert.equal(refused(3, nodeEncryption, { encryptionKey: 0 }), false, 'opted out')
  assert.equal(refused(2, nodeEncryption), false)
  assert.equal(refused(3, {}), false)
  // told to stop, it goes on encrypting to those that may still refuse
  const stopping = planned(snapshotOf(1, 3, [peerOf(2, 3, { encryptsHosts: true })]))
  assert.deepEqual(deviceTo(stopping, '172.18.0.4/32'), ['201 cilium_wg0'])
  assert.equal(stopping.announce.encryptsHosts, false)
})

test('connected sockets find the way anew, but neighbours are never asked through the device', () => {
  const text = table(planned(snapshotOf(1, 3, [peerOf(2, 3)], { config: nodeEncryption })))
  const chain = /chain find_anew \{[^}]*type route[^]*?\n\}/.exec(text)?.[0] ?? ''
  assert.match(
    chain,
    /0xe00 accept\n.*nd-neighbor-advert.* accept\n.*@hosts6 meta mark set meta mark & 0xfffff0ff \| 0xf00/,
  )
  const out = planned(snapshotOf(1, 3, [peerOf(2, 3)], { config: nodeEncryption, self: { optedOut: true } }))
  assert.doesNotMatch(table(out), /find_anew/)
})

test('a host without a usable key is not spoken to in clear', () => {
  const p = planned(snapshotOf(1, 3, [peerOf(2, 3, { publicKeyText: 'no key' })], { config: nodeEncryption }))
  assert.deepEqual(deviceTo(p, '172.18.0.4/32'), [])
  assert.match(table(p), /set hosts4 \{ type ipv4_addr; elements = \{ 172\.18\.0\.4 \}; \}/)
  assert.match(table(p), /ip daddr @hosts4 counter name host_would_leave_in_clear drop/)
})

test('MTUs by underlay, never encapsulated twice', () => {
  const v6 = { self: { nodeIps: { 6: nodeIpsOf(1)[6] } } }
  for (const [level, change, wireguard, vxlan, pod] of [
    [0, { config: { encryption: { ...CONFIG.encryption, enabled: false } } }, undefined, 1450, 1420], // both ends fit already: a running pod's own is never changed
    [0, {}, undefined, 1450, 1420],
    [2, {}, 1420, 1450, 1420],
    [2, v6, 1420, 1430, 1420],
    [3, { self: { underlayMtu: 9001 } }, 8921, undefined, 8921],
  ] as const) {
    const snapshot = snapshotOf(1, level, [], change)
    const mtu = (name: string) => planned(snapshot).host.links.find((l) => l.name === name)?.mtu
    assert.deepEqual([mtu('cilium_wg0'), mtu('cilium_vxlan'), mtu('lxc1x10')], [wireguard, vxlan, pod])
    const pods = podNetwork(snapshot, { device: 'eth0', ips: { 4: ip('10.244.1.10') }, hostMac: endpointOf(1, 10).mac })
    assert.equal(pods.mtu, pod)
    assert.equal(pods.routes[1]?.mtu, pod)
    assert.equal(pods.gsoMaxSize, 59_000)
  }
})

test('without what a plan needs there is none, with a remedy', () => {
  for (const [change, code] of [
    [{ config: { clusterCidrs: [] } }, 'config.cluster-cidrs.missing'],
    [{ config: { mark: { bits: 0x4000, mask: 0xc000 } } }, 'config.mark.invalid'],
    [{ config: { mark: { bits: 0xe00, mask: 0xf } } }, 'config.mark.invalid'],
    [{ config: { clusterCidrs: [cidr('172.16.0.0/12'), ...CONFIG.clusterCidrs] } }, 'node.ip.in-cluster-cidr'],
    [{ self: { nodeIps: {} } }, 'node.ip.missing'],
    [{ self: { podCidrs: [] } }, 'node.pod-cidr.missing'],
    [{ self: { podCidrs: [cidr('192.168.0.0/24')] } }, 'node.pod-cidr.outside'],
    [{ self: { internalIps: { 4: ip('10.244.9.1') } } }, 'node.internal-ip.outside'],
    [{ self: { internalIps: {} } }, 'node.internal-ip.missing'],
  ] as const) {
    const p = plan(snapshotOf(1, 3, [peerOf(2, 3)], change))
    assert.equal(p.usable, false, code)
    assert.ok(
      p.problems.some((problem) => problem.code === code && problem.remedy !== ''),
      `${code}: ${codes(p).join()}`,
    )
  }
})

test('what peers claim wrongly is left out and told', () => {
  const dup = keyOf(9)
  for (const [peers, expected, reachable] of [
    [[peerOf(2, 3, { publicKeyText: 'AAAA' })], ['peer.key.invalid CiliumNode/node-2'], []],
    [[peerOf(2, 3, { publicKeyText: `${'A'.repeat(43)}=` })], ['peer.key.invalid CiliumNode/node-2'], []],
    [[peerOf(2, undefined)], ['peer.key.missing CiliumNode/node-2'], []],
    [[peerOf(2, 3, { nodeIps: {} })], ['peer.ip.missing CiliumNode/node-2'], []],
    [[peerOf(2, 3, { nodeIps: { 4: ip('10.244.7.7') } })], ['peer.ip.in-cluster-cidr CiliumNode/node-2'], []],
    [
      [peerOf(2, 3, { publicKeyText: dup }), peerOf(3, 3, { publicKeyText: dup })],
      ['peer.key.duplicate CiliumNode/node-3'],
      [],
    ],
    [[peerOf(2, 3, { publicKeyText: keyOf(1) })], ['peer.key.duplicate CiliumNode/node-2'], []],
    [
      [peerOf(2, 3), peerOf(3, 3, { nodeIps: nodeIpsOf(2) })],
      ['peer.ip.duplicate CiliumNode/node-3', 'peer.ip.duplicate CiliumNode/node-3'],
      [],
    ],
    [
      [peerOf(2, 3, { nodeIps: nodeIpsOf(1) })],
      ['peer.ip.duplicate CiliumNode/node-2', 'peer.ip.duplicate CiliumNode/node-2'],
      [],
    ],
    [
      [peerOf(2, 3), peerOf(3, 3, { podCidrs: podCidrsOf(2), internalIps: {} })],
      Array.from({ length: 4 }, (_, i) => `peer.pod-cidr.overlap CiliumNode/node-${2 + (i % 2)}`),
      [],
    ],
    [
      [peerOf(2, 3), peerOf(3, 3, { podCidrs: [cidr('10.244.0.0/16')], internalIps: {} })],
      ['peer.pod-cidr.overlap CiliumNode/node-2', 'peer.pod-cidr.overlap CiliumNode/node-3'],
      [],
    ],
    [
      [peerOf(2, 3, { podCidrs: [cidr('10.244.1.128/25')], internalIps: {} })],
      ['peer.pod-cidr.overlap CiliumNode/node-2'],
      [],
    ],
    [
      [peerOf(2, 3, { podCidrs: [cidr('192.168.1.0/24')], internalIps: {} })],
      ['peer.pod-cidr.outside CiliumNode/node-2'],
      [],
    ],
    [
      [peerOf(2, 3, { internalIps: { 4: ip('10.244.5.1') } })],
      ['peer.internal-ip.outside CiliumNode/node-2'],
      ['10.244.2.0/24'],
    ],
  ] as [Peer[], string[], string[]][]) {
    const p = planned(snapshotOf(1, 3, peers))
    assert.deepEqual(codes(p).sort(), expected.sort())
    assert.ok(p.problems.every((problem) => problem.remedy !== '' && problem.message !== ''))
    const steered = p.host.routes.filter((r) => r.table === TABLE_STEERING && !r.destination.includes(':'))
    assert.deepEqual(steered.map((r) => r.destination).sort(), reachable, expected.join())
    const allowed = p.wireguard?.peers.flatMap((peer) => peer.allowedIps) ?? []
    assert.ok(!allowed.some((prefix) => containsIp(cidr('10.244.1.0/24'), networkOf(prefix))), 'never our own prefix')
    assert.ok(!allowed.includes(cidr('10.244.5.1/32')))
  }
})

test('a node without a key stays closed and says so', () => {
  const p = planned(snapshotOf(1, 3, [peerOf(2, 3)], { self: { publicKey: undefined } }))
  assert.equal(p.wireguard, undefined)
  assert.deepEqual(codes(p), ['node.key.missing CiliumNode/node-1'])
  assert.deepEqual(
    p.host.routes.filter((r) => r.table === TABLE_STEERING),
    [],
  )
})

const levels = fc.constantFrom<(Level | undefined)[]>(undefined, 0, 1, 2, 3)
const someKey = fc.constantFrom(undefined, 'rubbish', keyOf(40), keyOf(41))
const anyPeers = fc
  .array(fc.record({ level: levels, key: fc.option(someKey), optedOut: fc.boolean(), clash: fc.boolean() }), {
    maxLength: 12,
  })
  .map((list) =>
    list.map(({ level, key, optedOut, clash }, n) =>
      peerOf(n + 2, level, {
        ...(key === null ? {} : { publicKeyText: key }),
        ...(optedOut ? { encryptionKey: 0 } : {}),
        ...(clash ? { podCidrs: podCidrsOf(2) } : {}),
      }),
    ),
  )
const anyConfig: fc.Arbitrary<Partial<PlanConfig>> = fc
  .record({ node: fc.boolean(), enabled: fc.boolean(), v4: fc.boolean(), v6: fc.boolean() })
  .map(({ node, enabled, v4, v6 }) => ({
    encryption: { ...CONFIG.encryption, enabled, nodeEncryption: node },
    masquerade: { 4: v4, 6: v6 },
  }))

test('no plan of a closed node has a way for a remote pod outside the encryption device', () => {
  fc.assert(
    fc.property(anyPeers, anyConfig, (peers, config) => {
      const p = planned(snapshotOf(1, 3, peers, { config }))
      for (const route of p.host.routes) {
        if (route.type === 'blackhole' || route.device?.startsWith('lxc')) continue
        assert.equal(route.device, 'cilium_wg0')
        assert.equal(route.table, TABLE_STEERING)
      }
      assert.ok(!p.host.links.some((link) => link.kind === 'vxlan'))
      assert.equal(p.host.routes.filter((r) => r.type === 'blackhole').length, 2)
      const allowed = p.wireguard!.peers.flatMap((peer) => peer.allowedIps)
      assert.equal(new Set(allowed).size, allowed.length, 'no prefix belongs to two peers')
    }),
    { seed: 3, numRuns: 300 },
  )
})

test('every level has the blackholes, so that an unknown pod is never reached by the default route', () => {
  for (const level of [0, 1, 2, 3] as const) {
    const p = planned(snapshotOf(1, level, []))
    assert.deepEqual(
      p.host.routes.filter((r) => r.type === 'blackhole').map((r) => r.destination),
      CONFIG.clusterCidrs,
    )
  }
})

test('a new peer adds its own objects and touches no other, and a pod touches no peer', () => {
  const objects = (p: Usable) =>
    [...p.host.routes, ...p.host.neighbours, ...p.host.fdb, ...(p.wireguard?.peers ?? [])].map((o) => JSON.stringify(o))
  for (const level of [0, 2, 3] as const) {
    const old = Array.from({ length: 20 }, (_, n) => peerOf(n + 2, level))
    const base = snapshotOf(1, level, old)
    const before = planned(base)
    const more = planned({ ...base, peers: [...old, peerOf(30, level)] })
    const had = new Set(objects(before))
    assert.ok(objects(before).every((o) => objects(more).includes(o)))
    const added = objects(more).filter((o) => !had.has(o))
    assert.ok(
      added.length > 0 && added.every((o) => /10\.244\.30\.|172\.18\.0\.32|:1e::|:001e/.test(o)),
      added.join('\n'),
    )
    // the very same objects, so that nothing is made or compared again
    assert.equal(
      more.host.routes.filter((r) => before.host.routes.includes(r) && r.table !== 254).length,
      level === 0 ? 0 : 40,
    )
    const pod = planned({ ...base, endpoints: [...base.endpoints, endpointOf(1, 11)] })
    assert.equal(pod.host.fdb, before.host.fdb)
    assert.equal(pod.host.tables[0], before.host.tables[0])
    assert.notEqual(pod.host.tables[1]?.body, before.host.tables[1]?.body)
  }
})

test('a plan grows with the peers and no faster, and their order does not matter', () => {
  const size = (count: number) => {
    const peers = Array.from({ length: count }, (_, n) => peerOf(n + 2, 3))
    const p = planned(snapshotOf(1, 3, peers))
    const reversed = planned(snapshotOf(1, 3, peers.toReversed()))
    assert.equal(JSON.stringify(p), JSON.stringify(reversed))
    return JSON.stringify(p).length
  }
  const [a, b, c] = [size(200), size(400), size(800)] as [number, number, number]
  assert.ok(c - b < 2.2 * (b - a), `${a} ${b} ${c}`)
})
