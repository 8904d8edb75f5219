import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { IpsecShape } from '#core/ipsec/shape.ts'
import { ipsecConfig } from '#test/kit/snapshots.ts'
import { both, type Change, lacking, SteeringCluster, withoutLines } from './cluster.ts'

/** docs/adr/0004-steering.md for IPsec, each measure also taken out. Addresses are in cluster.ts. */
const skip = lacking() ?? false
let cluster: SteeringCluster
before(async () => {
  if (skip === false) cluster = await SteeringCluster.make(2)
})
after(async () => {
  await cluster?.close()
})

const DEVICE = 'pellicle_ipsec'
const POD1 = '10.244.1.10'
const POD2 = '10.244.2.10'
const POD2_6 = 'fd00:10:244:2::a'
const NODE1 = '172.18.0.3'
const NODE2 = '172.18.0.4'
/** Blackholes, and what is unreachable. */
const withoutClosing: Change = (host) => ({ ...host, routes: host.routes.filter(({ type }) => type === 'unicast') })
const noDrops = withoutLines(/in_clear drop/)
const closed = (shape: IpsecShape, without?: Change, nodeEncryption = false) => ({
  levels: [3, 3] as const,
  config: ipsecConfig(shape, { nodeEncryption }),
  ...(without === undefined ? {} : { without }),
})

/** The other node is not closed, and has no such line. */
const onClosed =
  (change: Change): Change =>
  (host) =>
    host.tables.some(({ body }) => body.includes('would_leave_in_clear')) ? change(host) : host

/** By shape: what a capture of the wire shows, and how much a pod may send at once. */
const SHAPES = [
  { shape: 'udp', onWire: /172\.18\.0\.3\.4500 > 172\.18\.0\.4\.4500: UDP-encap: ESP/, mtu: 1390 },
  { shape: 'esp', onWire: /172\.18\.0\.3 > 172\.18\.0\.4: ESP\(spi=0x00000003/, mtu: 1390 },
  { shape: 'esp-in-vxlan', onWire: /IP 10\.244\.1\.1 > 10\.244\.2\.1: ESP\(spi=0x00000003/, mtu: 1342 },
  { shape: 'vxlan-in-esp', onWire: /172\.18\.0\.3 > 172\.18\.0\.4: ESP\(spi=0x00000003/, mtu: 1340 },
] as const

for (const { shape, onWire, mtu } of SHAPES) {
  test(`${shape}: closed nodes talk by ESP, and the marker is not on the wire`, { skip }, async () => {
    await cluster.be(closed(shape))
    for (const target of [POD2, POD2_6]) {
      const seen = await cluster.watch('wire', 'br0', () => assert.equal(cluster.reach('p1', target), 3))
      assert.ok(!seen.marked)
      assert.match(seen.lines, onWire)
    }
    assert.equal(cluster.reach('p2', POD1), 3, 'the other way')
    assert.equal(cluster.reach('n1', POD2), 3, 'host to pod')
    assert.equal(cluster.reach('n1', POD2, '-I', NODE1), 3, 'host to pod from another address')
    assert.equal(cluster.reach('n1', '10.244.2.1'), 3, 'internal IP to internal IP')
    assert.equal(cluster.reach('p1', NODE2), 3, 'pod to host')
    const device = await cluster.watch('n1', DEVICE, () => cluster.ping('p1', POD2))
    assert.match(device.lines, /10\.244\.1\.10 > 10\.244\.2\.10: ICMP echo request/)
  })

  test(`${shape}: every pair of levels that can meet talks both ways`, { skip }, async () => {
    for (const levels of [
      [0, 1],
      [1, 1],
      [2, 1],
      [2, 2],
      [3, 2],
      [3, 3],
      [2, 2],
      [1, 1],
      [0, 0],
    ] as const) {
      await cluster.be({ ...closed(shape), levels })
      assert.equal(cluster.reach('p1', POD2), 3, `${levels.join()} one way`)
      assert.equal(cluster.reach('p2', POD1), 3, `${levels.join()} the other`)
      assert.equal(cluster.reach('p1', POD2_6), 3, `${levels.join()} IPv6`)
    }
  })

  test(`${shape}: with nodeEncryption pods and hosts reach hosts by the device, as their node`, { skip }, async () => {
    await cluster.be(closed(shape, undefined, true))
    const drops = () => cluster.dropped(1, 'loop') + cluster.dropped(1, 'host_would_leave_in_clear')
    const before = drops()
    const seen = await cluster.watch('wire', 'br0', () => {
      assert.equal(cluster.reach('p1', NODE2), 3)
      assert.equal(cluster.reach('n1', NODE2), 3)
      assert.equal(cluster.reach('p1', 'fc00:18::4'), 3)
      assert.equal(cluster.reach('n1', 'fc00:18::4'), 3)
      assert.equal(cluster.reach('p1', POD2), 3)
    })
    assert.ok(!seen.marked)
    const inner = await cluster.watch('n2', DEVICE, () => cluster.ping('p1', NODE2))
    assert.match(inner.lines, /172\.18\.0\.3 > 172\.18\.0\.4: ICMP echo request/)
    assert.equal(drops(), before)
  })

  test(`${shape}: nothing encrypted goes round, whatever stands in the routing tables`, { skip }, async () => {
    await cluster.be(
      closed(
        shape,
        (host) => ({
          ...host,
          rules: host.rules
            .filter(({ table }) => table !== 200)
            .map((rule) => (rule.invert ? { ...rule, mark: 0, mask: 0, invert: false } : rule)),
        }),
        true,
      ),
    )
    assert.equal(cluster.ping('n1', NODE2), 0)
    assert.equal(cluster.ping('p1', POD2), 0)
    await cluster.idle()
    assert.ok(cluster.dropped(1, 'loop') > 0)
  })

  test(`${shape}: a pod that nobody knows, or no device: nothing leaves in clear`, { skip }, async () => {
    // either alone is enough, in every shape by the same lines
    const enough = shape === 'udp' ? [undefined, withoutClosing, noDrops] : [undefined]
    for (const without of [...enough, both(withoutClosing, noDrops)]) {
      const leaves = !enough.includes(without)
      await cluster.be(closed(shape, without))
      const unknown = await cluster.watch('wire', 'br0', () => {
        cluster.ping('p1', '10.244.77.5')
        cluster.ping('n1', '10.244.77.5')
      })
      assert.equal(unknown.marked, leaves, 'unknown pod')
      cluster.run('n1', `ip link set ${DEVICE} down`)
      const seen = await cluster.watch('wire', 'br0', () => assert.equal(cluster.ping('p1', POD2), 0))
      cluster.run('n1', `ip link set ${DEVICE} up`)
      assert.equal(seen.marked, leaves, 'no device')
    }
    await cluster.be(closed(shape))
    assert.equal(cluster.reach('p1', POD2), 3)
  })

  test(`${shape}: full packets fit by the largest algorithm, and none is cut`, { skip }, async () => {
    await cluster.be(closed(shape))
    cluster.run('p1', 'ip route flush cache')
    const seen = await cluster.watch('wire', 'br0', () =>
      assert.equal(cluster.reach('p1', POD2, '-M', 'do', '-s', String(mtu - 28)), 3),
    )
    assert.doesNotMatch(seen.lines, /frag|length 15\d\d/)
    assert.equal(cluster.ping('p1', POD2, '-M', 'do', '-s', String(mtu - 27)), 0)
    assert.equal(cluster.reach('p1', POD2_6, '-M', 'do', '-s', String(mtu - 48)), 3)
  })
}

test('esp-in-vxlan: captures of cilium_vxlan show ESP both ways, between internal IPs', { skip }, async () => {
  await cluster.be(closed('esp-in-vxlan'))
  const seen = await cluster.watch('n1', 'cilium_vxlan', () => cluster.ping('p1', POD2))
  assert.match(seen.lines, /10\.244\.1\.1 > 10\.244\.2\.1: ESP/)
  assert.match(seen.lines, /10\.244\.2\.1 > 10\.244\.1\.1: ESP/)
  assert.doesNotMatch(seen.lines, /ICMP/)
})

test('esp-in-vxlan: a closed node takes nothing but ESP from cilium_vxlan', { skip }, async () => {
  for (const [without, arrives] of [
    [undefined, false],
    [onClosed(withoutLines(/^ {2}counter name entered_in_clear drop/)), true],
  ] as const) {
    await cluster.be({ ...closed('esp-in-vxlan', without), levels: [3, 0] })
    const seen = await cluster.watch('p1', 'eth0', () => cluster.ping('p2', POD1))
    assert.equal(seen.marked, arrives)
  }
})

test('esp-in-vxlan: a closed node lets nothing but ESP into cilium_vxlan', { skip }, async () => {
  for (const [drops, leaves] of [
    [undefined, false],
    [noDrops, true],
  ] as const) {
    // somebody has put a route there, and taken the steering rule away
    const noRules: Change = (host) => ({ ...host, rules: host.rules.filter(({ table }) => table === 200) })
    await cluster.be(closed('esp-in-vxlan', drops === undefined ? noRules : both(noRules, drops)))
    cluster.run('n1', 'ip route add 10.244.2.0/24 via 10.244.2.1 dev cilium_vxlan onlink')
    const seen = await cluster.watch('wire', 'br0', () => cluster.ping('p1', POD2))
    cluster.run('n1', 'ip route del 10.244.2.0/24 via 10.244.2.1 dev cilium_vxlan')
    assert.equal(seen.marked, leaves)
  }
})

test('esp-in-vxlan: without cilium_vxlan encrypted packets look for no other way', { skip }, async () => {
  for (const [without, strays] of [
    [undefined, false],
    [both(withoutClosing, noDrops), true],
  ] as const) {
    await cluster.be(closed('esp-in-vxlan', without))
    cluster.run('n1', 'ip link set cilium_vxlan down')
    const seen = await cluster.watch('n1', 'eth0', () => assert.equal(cluster.ping('p1', POD2), 0))
    assert.equal(/10\.244\.1\.1 > 10\.244\.2\.1: ESP/.test(seen.lines), strays)
    assert.ok(!seen.marked)
  }
  await cluster.be(closed('esp-in-vxlan'))
  assert.equal(cluster.reach('p1', POD2), 3)
})

test('esp-in-vxlan: rp_filter as some distributions set it takes nothing, the plan sets it right', {
  skip,
}, async () => {
  await cluster.be(closed('esp-in-vxlan'))
  for (const device of ['all', 'cilium_vxlan', DEVICE])
    cluster.run('n1', `sysctl -qw net.ipv4.conf.${device}.rp_filter=1`)
  assert.equal(cluster.ping('p1', POD2), 0)
  await cluster.be(closed('esp-in-vxlan'))
  assert.equal(cluster.reach('p1', POD2), 3)
})

test('vxlan-in-esp: what cilium_vxlan sends is encrypted, and nothing else of hosts', { skip }, async () => {
  await cluster.be(closed('vxlan-in-esp'))
  const inner = await cluster.watch('n1', DEVICE, () => cluster.ping('p1', POD2))
  assert.match(inner.lines, /172\.18\.0\.3\.\d+ > 172\.18\.0\.4\.8472: (OTV|VXLAN)/)
  const wire = await cluster.watch('wire', 'br0', () => assert.equal(cluster.reach('n1', NODE2), 3))
  assert.match(wire.lines, /172\.18\.0\.3 > 172\.18\.0\.4: ICMP echo request/)
})

test('vxlan-in-esp: a closed node takes VXLAN by the device alone, and sends it by nothing else', {
  skip,
}, async () => {
  for (const [without, arrives] of [
    [undefined, false],
    [onClosed(withoutLines(/8472 .*entered_in_clear drop/)), true],
  ] as const) {
    await cluster.be({ ...closed('vxlan-in-esp', without), levels: [3, 0] })
    const seen = await cluster.watch('p1', 'eth0', () => cluster.ping('p2', POD1))
    assert.equal(seen.marked, arrives)
  }
  const noOverlayRoutes: Change = (host) => ({ ...host, routes: host.routes.filter(({ table }) => table !== 203) })
  for (const [without, leaves] of [
    [noOverlayRoutes, false],
    [both(noOverlayRoutes, noDrops), true],
  ] as const) {
    await cluster.be(closed('vxlan-in-esp', without))
    const seen = await cluster.watch('wire', 'br0', () => cluster.ping('p1', POD2))
    assert.equal(seen.marked, leaves)
  }
})

test('vxlan-in-esp: its own packets keep their address', { skip }, async () => {
  await cluster.be(
    closed('vxlan-in-esp', withoutLines(/^ {2}(udp dport 8472 ip6? daddr @nodes. notrack|ip6? daddr @asked. .* snat)/)),
  )
  // a connection of VXLAN's that conntrack does not know yet
  assert.equal(cluster.ping('p1', '10.244.2.1'), 0)
  await cluster.be(closed('vxlan-in-esp'))
  assert.equal(cluster.reach('p2', '10.244.1.1'), 3)
})
