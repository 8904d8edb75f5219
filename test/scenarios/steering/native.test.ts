import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PlanConfig } from '#core/plan/snapshot.ts'
import { CONFIG, ipsecConfig } from '#test/kit/snapshots.ts'
import { lacking, SteeringCluster, withoutLines } from './cluster.ts'

/** Without a tunnel in clear: the network between the nodes carries pods' packets. */
const skip = lacking() ?? false
let cluster: SteeringCluster
before(async () => {
  if (skip === false) cluster = await SteeringCluster.make(2)
})
after(async () => {
  await cluster?.close()
})

const POD2 = '10.244.2.10'
const native = { cidrs: CONFIG.clusterCidrs, directNodeRoutes: true }
const MODES = [
  ['WireGuard', { encryption: CONFIG.encryption }],
  ['ESP in UDP', ipsecConfig('udp')],
  ['ESP', ipsecConfig('esp')],
] as const satisfies readonly (readonly [string, Partial<PlanConfig>])[]

test('in clear pods talk as themselves, by the node that has them', { skip }, async () => {
  await cluster.be({ levels: [0, 0], config: { native } })
  const seen = await cluster.watch('wire', 'br0', () => assert.equal(cluster.reach('p1', POD2), 3))
  assert.match(seen.lines, /IP 10\.244\.1\.10 > 10\.244\.2\.10: ICMP echo request/)
  assert.doesNotMatch(cluster.run('n1', 'ip -br link'), /cilium_vxlan/)
  // neighbours are asked for by a link-local address, which a new device has not had for long
  for (let tries = 0; tries < 50 && cluster.run('n1', 'ip -6 addr show dev eth0 tentative') !== ''; tries++) {
    await sleep(100)
  }
  assert.equal(cluster.reach('p1', 'fd00:10:244:2::a'), 3)
  const host = await cluster.watch('wire', 'br0', () => assert.equal(cluster.reach('n1', POD2, '-I', '172.18.0.3'), 3))
  assert.match(host.lines, /IP 10\.244\.1\.1 > 10\.244\.2\.10: ICMP echo request/, 'hosts by the internal IP')
  const node = await cluster.watch('wire', 'br0', () => assert.equal(cluster.reach('p1', '172.18.0.4'), 3))
  assert.match(node.lines, /IP 172\.18\.0\.3 > 172\.18\.0\.4: ICMP echo request/, 'pods to hosts as their node')
})

test('what the network carries natively is not masqueraded', { skip }, async () => {
  cluster.run('out', 'ip addr add 10.99.0.1/32 dev lo')
  cluster.run('out', 'ip route add 10.244.1.0/24 via 172.18.0.3')
  cluster.run('out', 'ip route add 10.244.2.0/24 via 172.18.0.4')
  const wide = { ...native, cidrs: [...native.cidrs, '10.99.0.0/16' as (typeof native.cidrs)[number]] }
  try {
    for (const [without, expected] of [
      [undefined, /IP 10\.244\.1\.10 > 10\.99\.0\.1/],
      [withoutLines(/daddr 10\.99\.0\.0\/16 accept/), /IP 172\.18\.0\.3 > 10\.99\.0\.1/],
    ] as const) {
      await cluster.be({ levels: [0, 0], config: { native: wide }, ...(without === undefined ? {} : { without }) })
      const seen = await cluster.watch('wire', 'br0', () => assert.equal(cluster.reach('p1', '10.99.0.1'), 3))
      assert.match(seen.lines, expected)
    }
  } finally {
    cluster.run('out', 'ip addr del 10.99.0.1/32 dev lo')
    cluster.run('out', 'ip route del 10.244.1.0/24')
    cluster.run('out', 'ip route del 10.244.2.0/24')
  }
})

for (const [name, mode] of MODES) {
  const config = { ...mode, native }

  test(`${name}: every pair of levels that can meet talks both ways`, { skip }, async () => {
    for (const levels of [
      [0, 1],
      [2, 1],
      [2, 2],
      [3, 2],
      [3, 3],
      [1, 1],
      [0, 0],
    ] as const) {
      await cluster.be({ levels, config })
      assert.equal(cluster.reach('p1', POD2), 3, `${levels.join()} one way`)
      assert.equal(cluster.reach('p2', '10.244.1.10'), 3, `${levels.join()} the other`)
      assert.equal(cluster.reach('p1', 'fd00:10:244:2::a'), 3, `${levels.join()} IPv6`)
      assert.equal(cluster.reach('n1', POD2), 3, `${levels.join()} host`)
    }
  })

  test(`${name}: closed, nothing of pods is on the wire, and nothing is taken in clear`, { skip }, async () => {
    await cluster.be({ levels: [3, 3], config })
    const seen = await cluster.watch('wire', 'br0', () => assert.equal(cluster.reach('p1', POD2), 3))
    assert.ok(!seen.marked)
    for (const [without, arrives] of [
      [undefined, false],
      [withoutLines(/entered_in_clear drop/), true],
    ] as const) {
      await cluster.be({ levels: [3, 3], config, ...(without === undefined ? {} : { without }) })
      // a node that is back in clear
      cluster.run('n2', 'ip rule add priority 1 iif lxc2x10 lookup 99')
      cluster.run('n2', 'ip route add 10.244.1.0/24 via 172.18.0.3 table 99')
      cluster.nft(2, 'flush chain inet pellicle leave')
      const there = await cluster.watch('p1', 'eth0', () => cluster.ping('p2', '10.244.1.10'))
      cluster.run('n2', 'ip rule del priority 1')
      cluster.run('n2', 'ip route flush table 99')
      assert.equal(there.marked, arrives)
      await cluster.be({ levels: [0, 0], config })
    }
  })
}
