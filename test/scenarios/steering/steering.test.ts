import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { CONFIG } from '#test/kit/snapshots.ts'
import { both, lacking, SteeringCluster, withoutBlackholes, withoutLines } from './cluster.ts'
import { superPackets } from './super-packets.ts'

/**
 * Each point of docs/adr/0004-steering.md: what it promises holds with the plan as it is, and the harm that it keeps away
 * is seen when it is taken out. Two nodes, one pod each; addresses are in cluster.ts.
 * Longer than other files: the points are read in the order of that record, on one cluster.
 */
const skip = lacking() ?? false
let cluster: SteeringCluster
before(async () => {
  if (skip === false) cluster = await SteeringCluster.make(2)
})
after(async () => {
  await cluster?.close()
})

const POD2 = '10.244.2.10'
const POD2_6 = 'fd00:10:244:2::a'
const NODE1 = '172.18.0.3'
const NODE1_6 = 'fc00:18::3'
const NODE2 = '172.18.0.4'
const NODE2_6 = 'fc00:18::4'
const STRANGER = '172.18.0.250'
const STRANGER_6 = 'fc00:18::250'
const closed = { levels: [3, 3] } as const
const nodeEncryption = { encryption: { ...CONFIG.encryption, nodeEncryption: true } }
const noDrops = withoutLines(/in_clear drop/)

test('in clear pods talk by VXLAN, and the marker is on the wire', { skip }, async () => {
  await cluster.be({ levels: [0, 0] })
  for (const target of [POD2, POD2_6]) {
    const seen = await cluster.watch('wire', 'br0', () => assert.equal(cluster.reach('p1', target), 3))
    assert.ok(seen.marked)
    assert.match(seen.lines, /172\.18\.0\.3\.\d+ > 172\.18\.0\.4\.8472: OTV|VXLAN/)
  }
  assert.equal(cluster.reach('n1', POD2), 3, 'host to pod')
  assert.equal(cluster.reach('p1', NODE2), 3, 'pod to host')
})

test('closed nodes talk by WireGuard, and the marker is not on the wire', { skip }, async () => {
  await cluster.be(closed)
  for (const target of [POD2, POD2_6]) {
    const seen = await cluster.watch('wire', 'br0', () => assert.equal(cluster.reach('p1', target), 3))
    assert.ok(!seen.marked)
    assert.match(seen.lines, /172\.18\.0\.3\.51871 > 172\.18\.0\.4\.51871: UDP/)
  }
  assert.equal(cluster.reach('n1', POD2), 3, 'host to pod')
  assert.equal(cluster.reach('p1', NODE2), 3, 'pod to host')
  const device = await cluster.watch('n1', 'cilium_wg0', () => cluster.ping('p1', POD2))
  assert.match(device.lines, /10\.244\.1\.10 > 10\.244\.2\.10: ICMP echo request/)
})

test('every pair of levels that can meet talks both ways', { skip }, async () => {
  for (const levels of [
    [0, 1],
    [1, 1],
    [1, 2],
    [2, 1],
    [2, 2],
    [2, 3],
    [3, 2],
    [3, 3],
    [2, 2],
    [1, 1],
    [0, 0],
  ] as const) {
    await cluster.be({ levels })
    assert.equal(cluster.reach('p1', POD2), 3, `${levels.join()} one way`)
    assert.equal(cluster.reach('p2', '10.244.1.10'), 3, `${levels.join()} the other`)
    assert.equal(cluster.reach('p1', POD2_6), 3, `${levels.join()} IPv6`)
  }
})

test('packets that are encrypted already do not enter the device again', { skip }, async () => {
  await cluster.be({ ...closed, config: nodeEncryption })
  const seen = await cluster.watch('wire', 'br0', () => assert.equal(cluster.reach('n1', NODE2), 3))
  assert.ok(!seen.marked)
  assert.equal(cluster.dropped(1, 'loop'), 0)
  // the rule for everything: the second line of defence stops what would go round
  await cluster.be({
    ...closed,
    config: nodeEncryption,
    without: (host) => ({ ...host, rules: host.rules.map((rule) => ({ ...rule, mark: 0, mask: 0, invert: false })) }),
  })
  assert.equal(cluster.ping('n1', NODE2), 0)
  await cluster.idle()
  assert.ok(cluster.dropped(1, 'loop') > 0)
})

test('pods leave as their node, so that the answer finds the way in clear', { skip }, async () => {
  await cluster.be(closed)
  for (const [target, own, node, pod] of [
    [NODE2, NODE1, NODE2, /10\.244\.1\.10/],
    [NODE2_6, NODE1_6, NODE2_6, /fd00:10:244:1::a/],
    [STRANGER, NODE1, STRANGER, /10\.244\.1\.10/],
    [STRANGER_6, NODE1_6, STRANGER_6, /fd00:10:244:1::a/],
  ] as const) {
    const seen = await cluster.watch('wire', 'br0', () => assert.equal(cluster.reach('p1', target), 3, target))
    assert.match(seen.lines, new RegExp(`IP6? ${own} > ${node}: ICMP6?,? echo request`))
    assert.doesNotMatch(seen.lines, pod)
  }
  await cluster.be({ ...closed, config: { masquerade: { 4: false, 6: false } } })
  for (const target of [NODE2, NODE2_6]) assert.equal(cluster.reach('p1', target), 3, 'to nodes in any case')
  assert.equal(cluster.ping('p1', STRANGER_6), 0)
  await cluster.be({ ...closed, without: withoutLines(/masquerade|daddr @nodes. meta.* snat/) })
  const earlier = cluster.dropped(1, 'would_leave_in_clear')
  // what goes to a node does not leave; a stranger gets it, and has no way back
  for (const target of [NODE2, NODE2_6, STRANGER_6]) assert.equal(cluster.ping('p1', target), 0, target)
  await cluster.idle()
  assert.ok(cluster.dropped(1, 'would_leave_in_clear') >= earlier + 6)
})

test('with nodeEncryption pods and hosts reach hosts by the device, as their node', { skip }, async () => {
  await cluster.be({ ...closed, config: nodeEncryption })
  const seen = await cluster.watch('wire', 'br0', () => {
    assert.equal(cluster.reach('p1', NODE2), 3)
    assert.equal(cluster.reach('n1', NODE2), 3)
    assert.equal(cluster.reach('p1', NODE2_6), 3)
    assert.equal(cluster.reach('n1', NODE2_6), 3)
  })
  assert.ok(!seen.marked)
  const inner = await cluster.watch('n2', 'cilium_wg0', () => cluster.ping('p1', NODE2))
  assert.match(inner.lines, /172\.18\.0\.3 > 172\.18\.0\.4: ICMP echo request/)
})

test('what a host sends to pods from another address gets the internal one', { skip }, async () => {
  await cluster.be(closed)
  assert.equal(cluster.reach('n1', POD2, '-I', NODE1), 3)
  const inner = await cluster.watch('n2', 'cilium_wg0', () => cluster.ping('n1', POD2, '-I', NODE1))
  assert.match(inner.lines, /10\.244\.1\.1 > 10\.244\.2\.10: ICMP echo request/)
  // without it the answers go to the node's address, in clear
  await cluster.be({ ...closed, without: withoutLines(/snat ip to/) })
  assert.equal(cluster.ping('n1', POD2, '-I', NODE1), 0)
  await cluster.be({ ...closed, without: both(withoutLines(/snat ip to|masquerade/), noDrops) })
  const seen = await cluster.watch('wire', 'br0', () => cluster.ping('n1', POD2, '-I', NODE1))
  assert.ok(seen.marked)
})

/** kube-proxy's chains as far as they matter: its DNAT, its mark, its masquerading. */
const SERVICE = '10.96.0.9'
const KUBE_PROXY = `table ip kube-proxy {
  chain services { ip daddr ${SERVICE} iifname != "lxc*" meta mark set meta mark | 0x4000
    ip daddr ${SERVICE} dnat to ${POD2}
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat
    jump services
  }
  chain nat-output { type nat hook output priority -100
    jump services
  }
  chain nat-postrouting { type nat hook postrouting priority srcnat
    meta mark & 0x4000 == 0 return
    meta mark set meta mark ^ 0x4000
    masquerade fully-random
  }
}`

test('Services work from pods and hosts beside kube-proxy, in clear and encrypted', { skip }, async () => {
  await cluster.be({ levels: [0, 0] })
  cluster.nft(1, KUBE_PROXY)
  try {
    for (const levels of [
      [0, 0],
      [2, 2],
      [3, 3],
    ] as const) {
      await cluster.be({ levels })
      assert.equal(cluster.reach('p1', SERVICE), 3, `pod, ${levels.join()}`)
      assert.equal(cluster.reach('n1', SERVICE), 3, `host, ${levels.join()}`)
      const inside = await cluster.watch('p2', 'eth0', () => cluster.ping('n1', SERVICE))
      assert.match(inside.lines, /10\.244\.1\.1 > 10\.244\.2\.10: ICMP echo request/)
    }
    // kube-proxy's mark stays on what carries the packet where our rule does not take it off
    const marked =
      'table inet pp_probe {\n counter marked { }\n chain out { type filter hook postrouting priority 310\n udp dport 8472 meta mark & 0xc000 != 0 counter name marked\n }\n}'
    cluster.nft(1, marked)
    const count = () => Number(/packets (\d+)/.exec(cluster.run('n1', 'nft list counter inet pp_probe marked'))?.[1])
    await cluster.be({ levels: [0, 0] })
    cluster.ping('n1', SERVICE)
    assert.equal(count(), 0)
    await cluster.be({
      levels: [0, 0],
      without: (host) => ({
        ...host,
        tables: host.tables.map((t) => ({ ...t, body: t.body.replaceAll('meta mark set meta mark & 0xffff3fff', '') })),
      }),
    })
    cluster.ping('n1', SERVICE)
    assert.ok(count() > 0)
  } finally {
    cluster.nft(1, 'table ip kube-proxy\ndelete table ip kube-proxy\ntable inet pp_probe\ndelete table inet pp_probe')
  }
})

test('a pod that nobody knows yet is not looked for by the default route', { skip }, async () => {
  const unknown = '10.244.77.5'
  for (const [without, leaves] of [
    [undefined, false],
    [withoutBlackholes, false],
    [noDrops, false],
    [both(withoutBlackholes, noDrops), true],
  ] as const) {
    await cluster.be({ ...closed, ...(without === undefined ? {} : { without }) })
    const seen = await cluster.watch('wire', 'br0', () => {
      cluster.ping('p1', unknown)
      cluster.ping('n1', unknown)
    })
    assert.equal(seen.marked, leaves)
  }
})

test('without the device nothing of the pods leaves in clear', { skip }, async () => {
  for (const [without, leaves] of [
    [undefined, false],
    [both(withoutBlackholes, noDrops), true],
  ] as const) {
    await cluster.be({ ...closed, ...(without === undefined ? {} : { without }) })
    cluster.run('n1', 'ip link set cilium_wg0 down')
    const seen = await cluster.watch('wire', 'br0', () => assert.equal(cluster.ping('p1', POD2), 0))
    assert.equal(seen.marked, leaves)
    cluster.run('n1', 'ip link set cilium_wg0 up')
  }
  await cluster.be(closed)
  assert.equal(cluster.reach('p1', POD2), 3)
})

test('a closed node takes nothing in clear', { skip }, async () => {
  cluster.run('out', 'ip addr add 10.244.2.10/32 dev lo')
  cluster.run('out', `ip route add 10.244.1.0/24 via ${NODE1}`)
  try {
    for (const [without, arrives] of [
      [undefined, false],
      [withoutLines(/entered_in_clear drop/), true],
    ] as const) {
      await cluster.be({ ...closed, ...(without === undefined ? {} : { without }) })
      const seen = await cluster.watch('p1', 'eth0', () => cluster.ping('out', '10.244.1.10', '-I', '10.244.2.10'))
      assert.equal(seen.marked, arrives)
    }
  } finally {
    cluster.run('out', 'ip addr del 10.244.2.10/32 dev lo')
    cluster.run('out', 'ip route del 10.244.1.0/24')
  }
})

test('VXLAN is taken from nodes alone, with sources that are pods of other nodes', { skip }, async () => {
  // a stranger that speaks VXLAN and knows the addresses
  cluster.run('out', `ip link add vx type vxlan id 1 dstport 8472 local 172.18.0.250 remote ${NODE1} nolearning`)
  cluster.run('out', 'ip addr add 10.244.2.10/32 dev vx')
  cluster.run('out', 'ip link set vx up')
  cluster.run('out', 'ip route add 10.244.1.0/24 dev vx')
  cluster.run('out', 'ip neigh add 10.244.1.10 lladdr 0e:04:0a:f4:01:01 dev vx')
  try {
    for (const [without, arrives] of [
      [undefined, false],
      [withoutLines(/vxlan_from_stranger/), true],
    ] as const) {
      await cluster.be({ levels: [0, 0], ...(without === undefined ? {} : { without }) })
      const seen = await cluster.watch('p1', 'eth0', () => cluster.ping('out', '10.244.1.10', '-I', '10.244.2.10'))
      assert.equal(seen.marked, arrives)
    }
    cluster.run('out', 'ip addr add 10.244.1.77/32 dev vx')
    for (const [without, arrives] of [
      [withoutLines(/vxlan_from_stranger/), false],
      [withoutLines(/vxlan_from_stranger|vxlan_wrong_source/), true],
    ] as const) {
      await cluster.be({ levels: [0, 0], without })
      const seen = await cluster.watch('p1', 'eth0', () => cluster.ping('out', '10.244.1.10', '-I', '10.244.1.77'))
      assert.equal(seen.marked, arrives, 'a source that is ours')
    }
  } finally {
    cluster.run('out', 'ip link del vx')
  }
})

test('a pod cannot speak VXLAN to a node, its own or another, and so as any pod', { skip }, async () => {
  const speak = (pod: string, own: string, node: string) => {
    cluster.run(pod, `ip link add vx type vxlan id 1 dstport 8472 local ${own} remote ${node} nolearning`)
    cluster.run(pod, 'ip addr add 10.244.77.5/32 dev vx')
    cluster.run(pod, 'ip link set vx up')
  }
  try {
    // in its packet to node 1's internal IP, through the tunnel, lies one from a pod that is somewhere else
    speak('p2', POD2, '10.244.1.1')
    cluster.run('p2', 'ip route add 10.244.1.10 dev vx')
    cluster.run('p2', 'ip neigh add 10.244.1.10 lladdr 0e:04:0a:f4:01:01 dev vx')
    for (const levels of [
      [0, 0],
      [2, 2],
    ] as const) {
      for (const [without, arrives] of [
        [undefined, false],
        [withoutLines(/vxlan_from_stranger/), true],
      ] as const) {
        await cluster.be({ levels, ...(without === undefined ? {} : { without }) })
        const seen = await cluster.watch('p1', 'eth0', () => cluster.ping('p2', '10.244.1.10', '-I', '10.244.77.5'))
        assert.equal(seen.marked, arrives, `${levels.join()} ${arrives}`)
      }
    }
    await cluster.be({ levels: [0, 0] })
    speak('p1', '10.244.1.10', NODE1)
    cluster.run('p1', 'ip route add 10.244.2.10 dev vx')
    cluster.run('p1', 'ip neigh add 10.244.2.10 lladdr 0e:04:0a:f4:01:01 dev vx')
    const earlier = cluster.dropped(1, 'vxlan_from_stranger')
    cluster.ping('p1', POD2, '-I', '10.244.77.5')
    assert.ok(cluster.dropped(1, 'vxlan_from_stranger') >= earlier + 3, 'to its own node')
  } finally {
    for (const pod of ['p1', 'p2']) {
      if (cluster.run(pod, 'ip -br link').includes('vx')) cluster.run(pod, 'ip link del vx')
    }
  }
})

test('a pod sends only from its own address', { skip }, async () => {
  cluster.run('p1', 'ip addr add 10.244.1.99/32 dev lo')
  try {
    for (const [without, arrives] of [
      [undefined, false],
      [withoutLines(/pod_wrong_source drop/), true],
    ] as const) {
      await cluster.be({ ...closed, ...(without === undefined ? {} : { without }) })
      const seen = await cluster.watch('p2', 'eth0', () => cluster.ping('p1', POD2, '-I', '10.244.1.99'))
      assert.equal(seen.marked, arrives)
    }
  } finally {
    cluster.run('p1', 'ip addr del 10.244.1.99/32 dev lo')
  }
})

test('packets that come in by another device than answers leave by are taken', { skip }, async () => {
  const strict = () => {
    for (const device of ['all', 'cilium_vxlan']) cluster.run('n1', `sysctl -qw net.ipv4.conf.${device}.rp_filter=1`)
  }
  // node 1 answers encrypted, node 2 still sends in clear
  const between = { levels: [2, 1] } as const
  await cluster.be(between)
  strict()
  assert.equal(cluster.ping('p2', '10.244.1.10'), 0, 'the machine as some distributions set it')
  await cluster.be(between)
  assert.equal(cluster.reach('p2', '10.244.1.10'), 3, 'the plan sets it right')
  await cluster.be({ ...closed, config: nodeEncryption })
  cluster.run('n1', 'sysctl -qw net.ipv4.conf.eth0.rp_filter=1')
  assert.equal(cluster.ping('p1', POD2), 0)
  await cluster.be({ ...closed, config: nodeEncryption })
  assert.equal(cluster.reach('p1', POD2), 3)
})

test('the device is silent until somebody talks', { skip }, async () => {
  const again = async (without?: ReturnType<typeof withoutLines>) => {
    const situation = { ...closed, ...(without === undefined ? {} : { without }) }
    await cluster.be(situation)
    cluster.run('n1', 'ip link set cilium_wg0 down')
    cluster.run('n1', 'ip link set cilium_wg0 up')
    const seen = await cluster.watch('n1', 'cilium_wg0', async () => {
      await cluster.be(situation)
      await new Promise((resolve) => setTimeout(resolve, 2500))
    })
    return seen.lines
  }
  assert.equal(await again(), '')
  assert.match(await again(withoutLines(/ff00::\/8/)), /ICMP6/)
})

test('a device that is made anew keeps its address, so that peers need not be told', { skip }, async () => {
  await cluster.be({ levels: [0, 0] })
  cluster.run('n1', 'ip link del cilium_vxlan')
  await cluster.be({ levels: [0, 0] })
  assert.equal(cluster.reach('p2', '10.244.1.10'), 3)
  cluster.run('n1', 'ip link set cilium_vxlan address 0e:00:00:00:00:99')
  assert.equal(cluster.ping('p2', '10.244.1.10'), 0, 'with another one nothing arrives')
})

test('full packets of a pod fit encrypted, and none is cut', { skip }, async () => {
  await cluster.be(closed)
  const seen = await cluster.watch('wire', 'br0', () =>
    assert.equal(cluster.reach('p1', POD2, '-M', 'do', '-s', '1392'), 3),
  )
  assert.doesNotMatch(seen.lines, /frag|length 15\d\d/)
  assert.equal(cluster.ping('p1', POD2, '-M', 'do', '-s', '1393'), 0)
})

test('what a pod hands over as one packet comes to the device as one', { skip }, async () => {
  await cluster.be(closed)
  // else the machine's pace decides how much is sent at a time
  cluster.run('p1', 'sysctl -qw net.ipv4.tcp_min_tso_segs=255')
  const fits = await superPackets(cluster, POD2, 2_000_000)
  assert.ok(fits.sent > 0)
  assert.equal(fits.whole, fits.sent)
  // as the kernel makes devices: the last 6,000 bytes are too much for one encrypted UDP send, and Linux cuts it all
  const before = /gso_max_size \d+/.exec(cluster.run('p1', 'ip -d link show eth0'))?.[0] ?? ''
  cluster.run('p1', 'ip link set eth0 gso_max_size 65536')
  try {
    const large = await superPackets(cluster, POD2, 2_000_000)
    assert.ok(large.whole < large.sent, `${large.whole} of ${large.sent} came whole`)
  } finally {
    cluster.run('p1', `ip link set eth0 ${before}`)
  }
})
