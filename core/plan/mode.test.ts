import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { TABLE_ENCRYPT_MARKED, TABLE_OVERLAY, TABLE_POD_STEERING, TABLE_STEERING } from '#core/host/host-plan.ts'
import type { IpsecShape } from '#core/ipsec/shape.ts'
import type { Level } from '#core/transition/level.ts'
import { sendsBy } from '#core/transition/mode.ts'
import { bootIdOf, KEY_3, keyOf, stagePeerOf, stageSnapshotOf } from '#test/kit/snapshots.ts'
import { type Plan, plan } from './plan.ts'
import type { Snapshot } from './snapshot.ts'

/** Between WireGuard and IPsec: what a node has for both, and by which it sends. */
type Usable = Extract<Plan, { usable: true }>

function planned(snapshot: Snapshot): Usable {
  const result = plan(snapshot)
  assert.ok(result.usable, JSON.stringify(result))
  return result
}

const SHAPES = ['udp', 'esp', 'esp-in-vxlan', 'vxlan-in-esp'] as const satisfies readonly IpsecShape[]
const at = (stage: Level, shape: IpsecShape = 'udp', peers: readonly Level[] = [stage], level: Level = 3) =>
  planned(
    stageSnapshotOf(
      1,
      level,
      stage,
      peers.map((peer, n) => stagePeerOf(n + 2, 3, peer)),
      shape,
    ),
  )
const table = (p: Usable) => p.host.tables.find((t) => t.name === 'pellicle')!.body
const chain = (p: Usable, name: string) => new RegExp(`chain ${name} \\{\\n([^]*?)\\n\\}`).exec(table(p))?.[1] ?? ''
const given = (p: Usable) =>
  p.host.links.filter((l) => l.name.match(/cilium_wg0|pellicle_ipsec/)).map((l) => `${l.name} ${l.mtu}`)
const steered = (p: Usable, prefix: string) =>
  p.host.routes.filter((r) => r.destination === prefix).map((r) => `${r.table} ${r.device} ${r.mtu}`)

test('both devices are there from the first step to the last, with the peers of each', () => {
  assert.deepEqual(given(at(0)), ['cilium_wg0 1420'])
  assert.deepEqual(given(at(1)), ['cilium_wg0 1420', 'pellicle_ipsec 1390'])
  assert.deepEqual(given(at(2)), ['cilium_wg0 1420', 'pellicle_ipsec 1390'])
  assert.deepEqual(given(at(3)), ['pellicle_ipsec 1390'])
  for (const stage of [1, 2] as const) {
    const p = at(stage)
    assert.deepEqual(
      p.wireguard?.peers.map(({ publicKey }) => publicKey),
      [keyOf(2)],
    )
    assert.deepEqual(
      p.ipsec?.peers.map(({ bootId, send }) => ({ bootId, send })),
      [{ bootId: bootIdOf(2), send: KEY_3 }],
    )
    assert.deepEqual(p.wireguard?.peers[0]?.allowedIps, p.ipsec?.peers[0]?.allowedIps)
    const carried = p.host.addresses.filter(({ ip }) => ip === '10.244.1.1').map(({ device }) => device)
    assert.deepEqual(carried, ['cilium_host', 'cilium_wg0', 'pellicle_ipsec'])
    for (const device of ['cilium_wg0', 'pellicle_ipsec'])
      assert.ok(p.host.sysctls.some(({ path, value }) => path === `net/ipv4/conf/${device}/rp_filter` && value === '0'))
    assert.deepEqual(p.problems, [])
  }
})

test('the route says by which of them: WireGuard at stage 1, IPsec at 2 to those that receive by it', () => {
  assert.deepEqual(steered(at(1), '10.244.2.0/24'), ['201 cilium_wg0 1420'])
  const p = at(2, 'udp', [1, 0])
  assert.deepEqual(steered(p, '10.244.2.0/24'), ['201 pellicle_ipsec 1390'])
  assert.deepEqual(steered(p, '10.244.3.0/24'), ['201 cilium_wg0 1420'])
})

test('sessions of WireGuard are begun while it is not sent by, and only then', () => {
  const keepalive = (stage: Level) => at(stage).wireguard?.peers[0]?.persistentKeepalive
  assert.deepEqual([keepalive(0), keepalive(1), keepalive(2)], [0, 0, 5])
})

test('what it says: both keys, and its stage', () => {
  const says = ([0, 1, 2, 3] as const).map((stage) => {
    const { publicKey, ipsec, keyId, mode } = at(stage).announce
    return [publicKey !== undefined, ipsec !== undefined, keyId, mode?.level]
  })
  assert.deepEqual(says, [
    [true, false, 255, 0],
    [true, true, 255, 1],
    [true, true, 3, 2],
    [false, true, 3, 3],
  ])
})

test('every chain treats both devices alike', () => {
  const p = at(1, 'udp')
  for (const [name, direction, target] of [
    ['enter', 'iifname', 'from_encryption'],
    ['forward', 'iifname', 'arrived'],
    ['leave', 'oifname', 'into_encryption'],
    ['source_nat', 'oifname', 'tunnel_nat'],
  ] as const)
    for (const device of ['cilium_wg0', 'pellicle_ipsec'])
      assert.ok(chain(p, name).includes(`${direction} "${device}" goto ${target}`), `${name} ${device}`)
})

test('with nodeEncryption what carries either of them is let in', () => {
  const shapes = {
    udp: 'udp dport 4500 accept\n  meta l4proto esp',
    esp: 'udp dport 4500 accept\n  meta l4proto esp',
    'esp-in-vxlan': 'udp dport 8472',
    'vxlan-in-esp': 'meta l4proto esp',
  }
  for (const shape of SHAPES) {
    const peers = [stagePeerOf(2, 3, 1, { encryptsHosts: true })]
    const p = planned(stageSnapshotOf(1, 3, 1, peers, shape, { nodeEncryption: true }))
    assert.match(chain(p, 'enter'), new RegExp(`udp dport 51871 accept\n  ${shapes[shape]} accept`))
    assert.deepEqual(
      steered(p, '172.18.0.4/32').filter((route) => route.startsWith('201')),
      ['201 cilium_wg0 1420'],
    )
    const later = planned(stageSnapshotOf(1, 3, 2, peers, shape, { nodeEncryption: true }))
    assert.match(steered(later, '172.18.0.4/32').join(), /^202 pellicle_ipsec \d+,201 pellicle_ipsec \d+/)
  }
})

test('vxlan-in-esp: what VXLAN’s packets will need is there before a pod’s take it', () => {
  const before = at(1, 'vxlan-in-esp')
  const after = at(2, 'vxlan-in-esp')
  assert.deepEqual(steered(before, '10.244.2.0/24'), ['201 cilium_wg0 1420'])
  assert.match(steered(after, '10.244.2.0/24').join(), /^201 cilium_vxlan/)
  const overlay = (p: Usable) => p.host.routes.filter((r) => r.table === TABLE_OVERLAY)
  assert.deepEqual(overlay(before), overlay(after))
  assert.deepEqual(
    overlay(before).map(({ type, device }) => `${type} ${device}`),
    ['unicast pellicle_ipsec', 'unreachable undefined'],
  )
  assert.deepEqual(before.host.fdb, after.host.fdb)
})

/** What is there by IPsec alone: what pods and other nodes' own addresses say to each other (ADR 0004, "Hosts"). */
const OF_HOSTS = [
  /^chain (asked|answer) \{[^]*?^\}\n/gm,
  /^set (asked|answered|asking)[46] .*\n/gm,
  /^ {2}meta mark & 0xf00 == 0xc00 accept\n/gm,
  /^ {2}ip6? daddr @asked[46] .* snat .*\n/gm,
  /^ {2}ip6? daddr @nodes[46] tcp flags .* maxseg .*\n/gm,
]

test('the switch from the one to the other is nothing but routes, in every shape', () => {
  for (const shape of SHAPES) {
    const [before, after] = [at(1, shape), at(2, shape)]
    const rest = ({ host }: Usable) => ({ ...host, routes: [], tables: [] })
    assert.deepEqual(rest(before), rest(after), shape)
    const names = (p: Usable, ofHosts: boolean) =>
      p.host.routes
        .filter((r) => (r.table === TABLE_POD_STEERING) === ofHosts)
        .map((r) => `${r.table} ${r.type} ${r.destination} ${r.metric}`)
        .sort()
    assert.deepEqual(names(before, false), names(after, false), `${shape}: each is replaced, none is removed`)
    // What pods say to other nodes goes in clear before, so here something is added, and taken away on the way back: what
    // was received before still is, since nobody refuses the clear ones before he has nothing but IPsec.
    assert.deepEqual(names(before, true), [])
    assert.deepEqual(names(after, true), ['202 unicast 172.18.0.4/32 1024', '202 unicast fc00:18::4/128 1024'])
    assert.doesNotMatch(table(after), /@guarded/)
    const without = OF_HOSTS.reduce((text, part) => {
      assert.match(text, part, `${shape}: ${part}`)
      return text.replaceAll(part, '')
    }, table(after))
    assert.equal(without, table(before), `${shape}: of the nftables nothing else changes`)
    assert.deepEqual(before.host.tables.slice(1), after.host.tables.slice(1))
  }
})

const stages = fc.array(fc.constantFrom<Level[]>(0, 1, 2, 3), { maxLength: 8 })

test('no plan of a closed node has a way for a remote pod outside the two devices, or loses what keeps it closed', () => {
  fc.assert(
    fc.property(
      stages,
      fc.constantFrom<Level[]>(0, 1, 2, 3),
      fc.constantFrom(...SHAPES),
      fc.boolean(),
      (list, own, shape, nodeEncryption) => {
        const peers = list.map((stage, n) => stagePeerOf(n + 2, 3, stage))
        const p = planned(stageSnapshotOf(1, 3, own, peers, shape, { nodeEncryption }))
        for (const [n, stage] of list.entries()) {
          const via = sendsBy(own, stage)
          const has = via === 'wireguard' ? stage <= 2 : stage >= 1
          const routes = p.host.routes.filter((r) => r.destination === `10.244.${n + 2}.0/24`)
          const device =
            via === 'wireguard' ? 'cilium_wg0' : shape === 'vxlan-in-esp' ? 'cilium_vxlan' : 'pellicle_ipsec'
          assert.deepEqual(
            routes.map((r) => `${r.table} ${r.device}`),
            has ? [`${TABLE_STEERING} ${device}`] : [],
          )
        }
        for (const route of p.host.routes) {
          if (route.type !== 'unicast' || route.device?.startsWith('lxc')) continue
          assert.ok([TABLE_STEERING, TABLE_POD_STEERING, TABLE_ENCRYPT_MARKED, TABLE_OVERLAY].includes(route.table))
          if (route.table === TABLE_POD_STEERING) assert.match(route.destination, /^172\.|^fc00:/)
          if (route.table === TABLE_OVERLAY) assert.equal(route.device, 'pellicle_ipsec')
        }
        assert.equal(p.host.routes.filter(({ type }) => type === 'blackhole').length, 2)
        const closing = (name: string) =>
          chain(p, name)
            .split('\n')
            .filter((line) => /in_clear drop/.test(line)).length
        assert.ok(closing('enter') >= 4 && closing('leave') >= 4)
        if (shape === 'esp-in-vxlan' && own > 0) assert.match(chain(p, 'into_vxlan'), /would_leave_in_clear drop$/)
        for (const device of [p.wireguard, p.ipsec]) {
          const allowed = device?.peers.flatMap((peer) => peer.allowedIps) ?? []
          assert.equal(new Set(allowed).size, allowed.length, 'no prefix belongs to two peers')
        }
      },
    ),
    { seed: 5, numRuns: 400 },
  )
})

test('on the way to closed, clear packets in VXLAN are not taken for those that IPsec is to carry', () => {
  for (const stage of [1, 2] as const) {
    const clear = planned(stageSnapshotOf(1, 2, stage, [stagePeerOf(2, 0, stage)], 'vxlan-in-esp'))
    assert.doesNotMatch(table(clear), /set overlay4 \{[^}]*elements/)
    assert.deepEqual(
      steered(clear, '10.244.2.0/24').map((route) => route.split(' ').slice(0, 2).join(' ')),
      ['254 cilium_vxlan'],
    )
  }
})
