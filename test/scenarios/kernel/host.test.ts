import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { describeFault } from '#core/fault/fault.ts'
import { EMPTY_HOST_PLAN, type HostPlan, TABLE_ENCRYPT_MARKED, TABLE_STEERING } from '#core/host/host-plan.ts'
import { describeStep } from '#core/host/host-step.ts'
import { type Ip, requireIp } from '#core/ip/address.ts'
import { type Cidr, requireCidr } from '#core/ip/cidr.ts'
import { macOfIp } from '#core/ip/mac.ts'
import { HostKernel } from '#io/kernel/host-kernel.ts'
import { bridge, enterFreshNamespace, ip, ipJson, nft } from './namespace.ts'

const addr = (text: string): Ip => requireIp(text, 'test')
const cidr = (text: string): Cidr => requireCidr(text, 'test')

const INTERNAL = addr('10.244.1.1')
const PEER = addr('10.244.2.1')
const PEER6 = addr('fd00:2::1')

const PLAN: HostPlan = {
  links: [
    { kind: 'veth', name: 'cilium_host', peer: 'cilium_net', mtu: 1450 },
    {
      kind: 'vxlan',
      name: 'cilium_vxlan',
      mtu: 1430,
      mac: macOfIp(INTERNAL),
      vni: 1,
      port: 8472,
      local: addr('172.18.0.2'),
    },
    { kind: 'given', name: 'cilium_wg0', mtu: 1370, gsoMaxSize: 59_000 },
  ],
  addresses: [
    { device: 'cilium_host', ip: INTERNAL, length: 32 },
    { device: 'cilium_host', ip: addr('fd00:1::1'), length: 128 },
    { device: 'cilium_wg0', ip: INTERNAL, length: 32 },
  ],
  routes: [
    { table: 254, destination: cidr('10.244.0.0/16'), type: 'blackhole', metric: 1_000_000 },
    { table: 254, destination: cidr('fd00::/16'), type: 'blackhole', metric: 1_000_000 },
    { table: TABLE_ENCRYPT_MARKED, destination: cidr('10.244.0.0/16'), type: 'unreachable', metric: 9 },
    { table: 1000, destination: cidr('10.9.0.0/16'), type: 'local', device: 'lo', metric: 0 },
    {
      table: 254,
      destination: cidr('10.244.2.0/24'),
      type: 'unicast',
      device: 'cilium_vxlan',
      via: PEER,
      onlink: true,
      source: INTERNAL,
      metric: 1024,
      mtu: 1400,
    },
    {
      table: 254,
      destination: cidr('fd00:2::/64'),
      type: 'unicast',
      device: 'cilium_vxlan',
      via: PEER6,
      onlink: true,
      source: addr('fd00:1::1'),
      metric: 0,
    },
    {
      table: TABLE_STEERING,
      destination: cidr('10.244.3.0/24'),
      type: 'unicast',
      device: 'cilium_wg0',
      source: INTERNAL,
      metric: 1024,
      mtu: 1370,
    },
  ],
  rules: ([4, 6] as const).map((family) => ({
    family,
    priority: 201,
    mark: 0xe00,
    mask: 0xf00,
    invert: true,
    table: TABLE_STEERING,
  })),
  neighbours: [
    { device: 'cilium_vxlan', ip: PEER, mac: macOfIp(PEER) },
    { device: 'cilium_vxlan', ip: PEER6, mac: macOfIp(PEER) },
  ],
  fdb: [{ device: 'cilium_vxlan', mac: macOfIp(PEER), destination: addr('172.18.0.3') }],
  tables: [
    {
      family: 'inet',
      name: 'pellicle',
      body: `set clusters { type ipv4_addr; flags interval; elements = { 10.244.0.0/16, 10.96.0.0/12 } }
chain forward {
  type filter hook forward priority filter; policy accept;
  ip saddr @clusters oifname "eth0" counter drop
  meta mark & 0xf00 == 0xe00 oifname "cilium_wg0" counter drop comment "no loop"
}`,
    },
  ],
  sysctls: [
    { path: 'net/ipv4/conf/all/rp_filter', value: '0' },
    { path: 'net/ipv4/conf/cilium_vxlan/rp_filter', value: '0' },
    { path: 'net/ipv4/conf/cilium_wg0/rp_filter', value: '0' },
    { path: 'net/ipv4/ip_forward', value: '1' },
  ],
}

/** A namespace with an underlay and a TUN, and the kernel in it. */
function node(t: TestContext, { tun = true } = {}): HostKernel | undefined {
  if (enterFreshNamespace(t) === undefined) return undefined
  ip('link add eth0 type veth peer name under')
  ip('addr add 172.18.0.2/16 dev eth0')
  ip('link set eth0 up')
  if (tun) ip('tuntap add dev cilium_wg0 mode tun')
  const kernel = new HostKernel()
  t.after(() => kernel.close())
  return kernel
}

function applied(kernel: HostKernel, plan: HostPlan): string[] {
  const report = kernel.apply(plan)
  assert.deepEqual(
    report.failed.map(({ fault }) => describeFault(fault)),
    [],
  )
  assert.deepEqual(report.faults, [])
  assert.deepEqual(report.skipped, [])
  return report.done.map(describeStep)
}

test('a plan becomes what iproute2 and nft show, and a second apply does nothing', (t) => {
  const kernel = node(t)
  if (kernel === undefined) return
  applied(kernel, PLAN)

  const links = new Map(ipJson('link show').map((link) => [link.ifname, link]))
  assert.equal(links.get('cilium_host').linkinfo.info_kind, 'veth')
  assert.equal(links.get('cilium_host').link, 'cilium_net')
  for (const name of ['cilium_host', 'cilium_net']) {
    assert.equal(links.get(name).mtu, 1450)
    assert.equal(links.get(name).ifalias, 'pellicle')
    assert.equal(links.get(name).inet6_addr_gen_mode, 'none')
    assert.ok(links.get(name).flags.includes('UP'))
  }
  const vxlan = links.get('cilium_vxlan')
  assert.equal(vxlan.address, macOfIp(INTERNAL))
  assert.equal(vxlan.mtu, 1430)
  assert.deepEqual(
    [vxlan.linkinfo.info_data.id, vxlan.linkinfo.info_data.port, vxlan.linkinfo.info_data.local],
    [1, 8472, '172.18.0.2'],
  )
  assert.equal(vxlan.linkinfo.info_data.learning, false)
  assert.equal(links.get('cilium_wg0').gso_max_size, 59_000)
  assert.equal(links.get('cilium_wg0').mtu, 1370)

  const routes4 = ip('route show table all proto 112')
    .split('\n')
    .map((line) => line.trim().replaceAll(/ +/g, ' '))
  for (const line of [
    'blackhole 10.244.0.0/16 metric 1000000',
    'unreachable 10.244.0.0/16 table 200 metric 9',
    'local 10.9.0.0/16 dev lo table 1000 scope host',
    '10.244.2.0/24 via 10.244.2.1 dev cilium_vxlan src 10.244.1.1 metric 1024 onlink mtu 1400',
  ]) {
    assert.ok(routes4.includes(line), `${line}\nis not in\n${routes4.join('\n')}`)
  }
  const routes6 = ip('-6 route show proto 112')
  assert.match(routes6, /fd00:2::\/64 via fd00:2::1 dev cilium_vxlan src fd00:1::1 metric 1024 onlink/)
  assert.match(routes6, /blackhole fd00::\/16 dev lo metric 1000000/)
  assert.match(ip('rule show'), /201:\tnot from all fwmark 0xe00\/0xf00 lookup 201 proto 112/)
  assert.match(ip('-6 rule show'), /201:\tnot from all fwmark 0xe00\/0xf00 lookup 201 proto 112/)
  assert.match(ip('neigh show dev cilium_vxlan'), new RegExp(`10.244.2.1 lladdr ${macOfIp(PEER)} PERMANENT proto 112`))
  assert.match(ip('-6 neigh show dev cilium_vxlan'), /fd00:2::1 lladdr \S+ PERMANENT proto 112/)
  assert.match(bridge('fdb show dev cilium_vxlan'), new RegExp(`${macOfIp(PEER)} dst 172.18.0.3 self permanent`))
  assert.match(nft('list table inet pellicle'), /ip saddr @clusters oifname "eth0" counter packets 0 bytes 0 drop/)
  assert.equal(readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8'), '1\n')

  assert.deepEqual(applied(kernel, PLAN), [])
  // another process finds the same
  const second = new HostKernel()
  t.after(() => second.close())
  assert.deepEqual(applied(second, PLAN), [])
})

test('an empty plan removes all of ours and nothing else', (t) => {
  const kernel = node(t)
  if (kernel === undefined) return
  ip('route add 10.244.9.0/24 via 172.18.0.9 table 201')
  ip('route add blackhole 10.245.0.0/16')
  ip('rule add fwmark 0x1/0x1 lookup 201')
  ip('neigh add 172.18.0.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent')
  nft('add table inet kube-proxy; add chain inet kube-proxy x')
  const foreign = () => [
    ip('route show table all'),
    ip('rule show'),
    ip('neigh show dev eth0'),
    ip('addr show dev eth0'),
    nft('list ruleset'),
    ip('-br link show').replaceAll(/cilium_wg0.*/g, ''),
  ]
  const before = foreign()
  applied(kernel, PLAN)
  assert.notDeepEqual(foreign(), before)
  applied(kernel, EMPTY_HOST_PLAN)
  ip('addr flush dev cilium_wg0')
  assert.deepEqual(foreign(), before)
  assert.deepEqual(applied(kernel, EMPTY_HOST_PLAN), [])
})

test('what somebody else deletes or changes comes back, and only that', (t) => {
  const kernel = node(t)
  if (kernel === undefined) return
  applied(kernel, PLAN)
  const cases: readonly (readonly [damage: () => unknown, repair: RegExp])[] = [
    [() => ip('route del 10.244.3.0/24 table 201'), /^set route 10.244.3.0\/24 dev cilium_wg0 table 201/],
    [
      () => ip('route change 10.244.3.0/24 dev cilium_wg0 table 201 metric 1024 proto 112 mtu 900'),
      /^set route 10.244.3/,
    ],
    [() => ip('route del blackhole 10.244.0.0/16 metric 1000000'), /^set route blackhole 10.244.0.0/],
    [() => ip('-6 route del fd00:2::/64'), /^set route fd00:2::/],
    [() => ip('rule del priority 201'), /^add rule IPv4 201: not fwmark 0xe00\/0xf00 lookup 201/],
    [() => ip('neigh del 10.244.2.1 dev cilium_vxlan'), /^set neighbour 10.244.2.1/],
    [() => bridge(`fdb replace ${macOfIp(PEER)} dst 172.18.0.99 dev cilium_vxlan`), /^set fdb/],
    [() => bridge('fdb append 00:00:00:00:00:00 dst 172.18.0.99 dev cilium_vxlan'), /^delete fdb 00:00:00/],
    [() => bridge('fdb add 02:00:00:00:00:77 dst 172.18.0.77 dev cilium_vxlan'), /^delete fdb 02:00:00:00:00:77/],
    [() => ip('addr del 10.244.1.1/32 dev cilium_wg0'), /^add address 10.244.1.1\/32 dev cilium_wg0/],
    [() => ip('addr add 10.7.7.7/32 dev cilium_host'), /^delete address 10.7.7.7\/32 dev cilium_host/],
    [() => ip('link set cilium_vxlan mtu 1300'), /^set link cilium_vxlan mtu 1430/],
    [() => ip('link set cilium_wg0 gso_max_size 30000'), /^set link cilium_wg0 gsoMaxSize 59000/],
    [() => nft('delete table inet pellicle'), /^set table inet pellicle/],
    [() => nft('flush chain inet pellicle forward'), /^set table inet pellicle/],
    [() => nft('insert rule inet pellicle forward accept'), /^set table inet pellicle/],
    [() => nft('add element inet pellicle clusters { 192.0.2.0/24 }'), /^set table inet pellicle/],
    [() => nft('add table inet pellicle_old'), /^delete table inet pellicle_old/],
    [() => ip('route add 10.244.8.0/24 dev cilium_vxlan proto 112'), /^delete route 10.244.8.0\/24 dev cilium_vxlan/],
  ]
  for (const [damage, repair] of cases) {
    damage()
    const steps = applied(kernel, PLAN)
    // a route goes with the source address that it prefers
    const rest = steps.filter((step) => !repair.test(step) && !step.includes('src'))
    assert.ok(
      steps.some((step) => repair.test(step)),
      `${damage.toString()}: ${steps.join(', ')}`,
    )
    if (!damage.toString().includes('addr del')) assert.deepEqual(rest, [], damage.toString())
    assert.deepEqual(applied(kernel, PLAN), [], damage.toString())
  }
})

test('a deleted device comes back with everything that stood on it', (t) => {
  const kernel = node(t)
  if (kernel === undefined) return
  applied(kernel, PLAN)
  const before = [ip('route show table all'), bridge('fdb show dev cilium_vxlan'), ip('neigh show dev cilium_vxlan')]
  ip('link del cilium_vxlan')
  const steps = applied(kernel, PLAN)
  assert.match(steps[0] ?? '', /^create link cilium_vxlan/)
  assert.deepEqual(before.slice(1), [bridge('fdb show dev cilium_vxlan'), ip('neigh show dev cilium_vxlan')])
  assert.deepEqual(applied(kernel, PLAN), [])
  // set down and up again, IPv4 routes are gone
  ip('link set cilium_vxlan down')
  assert.ok(applied(kernel, PLAN).includes('set link cilium_vxlan up true'))
  applied(kernel, PLAN)
  assert.match(ip('route show'), /10.244.2.0\/24 via/)
  // another VNI cannot be set on a living device
  const other = { ...PLAN, links: PLAN.links.map((link) => (link.kind === 'vxlan' ? { ...link, vni: 7 } : link)) }
  applied(kernel, other)
  assert.equal(ipJson('link show cilium_vxlan')[0].linkinfo.info_data.id, 7)
  assert.deepEqual(applied(kernel, other), [])
})

test('a device that is not there yet is waited for, and everything else goes on', (t) => {
  const kernel = node(t, { tun: false })
  if (kernel === undefined) return
  const first = kernel.apply(PLAN)
  assert.deepEqual(first.failed, [])
  // the link itself, its rp_filter, its address and its route
  assert.deepEqual([...first.waiting], [['cilium_wg0', 4]])
  assert.match(ip('route show'), /10.244.2.0\/24 via/)
  ip('tuntap add dev cilium_wg0 mode tun')
  const second = kernel.apply(PLAN)
  assert.deepEqual([...second.waiting], [])
  assert.match(ip('route show table 201'), /10.244.3.0\/24 dev cilium_wg0/)
})

test('a link of our name but of another kind is left alone and named', (t) => {
  const kernel = node(t)
  if (kernel === undefined) return
  ip('tuntap add dev cilium_vxlan mode tap')
  const report = kernel.apply(PLAN)
  assert.deepEqual(
    report.faults.map((fault) => [fault.code, fault.message]),
    [['host.link.taken', 'the name cilium_vxlan is taken by a link of kind tun']],
  )
  assert.equal(ipJson('link show cilium_vxlan')[0].linkinfo.info_kind, 'tun')
  assert.deepEqual(report.failed, [])
  assert.ok((report.waiting.get('cilium_vxlan') ?? 0) > 0)
})

test('when what closes cannot be set, nothing is opened', (t) => {
  const kernel = node(t)
  if (kernel === undefined) return
  const broken = { ...PLAN, tables: [{ family: 'inet' as const, name: 'pellicle', body: 'chain x { no such thing }' }] }
  const report = kernel.apply(broken)
  assert.equal(report.failed.length, 1)
  const text = describeFault(report.failed[0]?.fault)
  assert.match(text, /^cannot set table inet pellicle: nftables refuses a change: .*syntax error/)
  assert.deepEqual(
    report.done.filter((step) => step.do === 'set route' && step.route.type === 'unicast'),
    [],
  )
  assert.ok(report.skipped.length > 0)
  assert.doesNotMatch(ip('route show table all'), /10.244.2.0|10.244.3.0/)
})

test('a foreign route in the place of ours is not replaced: the error says so', (t) => {
  const kernel = node(t)
  if (kernel === undefined) return
  ip('route add 10.244.3.0/24 dev eth0 table 201 metric 1024')
  const report = kernel.apply(PLAN)
  assert.deepEqual(
    report.failed.map(({ fault }) => describeFault(fault)),
    ['cannot set route 10.244.3.0/24 dev cilium_wg0 table 201 metric 1024: the kernel refuses: file already exists'],
  )
  assert.match(ip('route show table 201'), /10.244.3.0\/24 dev eth0/)
})

test('an IPv6 blackhole and an IPv4 one become ways, and back', (t) => {
  const kernel = node(t)
  if (kernel === undefined) return
  const open = (type: 'unicast' | 'blackhole'): HostPlan => ({
    ...PLAN,
    routes: ['10.244.7.0/24', 'fd00:7::/64'].map((text) => ({
      table: TABLE_STEERING,
      destination: cidr(text),
      metric: 1024,
      ...(type === 'unicast' ? { type, device: 'cilium_wg0' } : { type }),
    })),
  })
  for (const type of ['blackhole', 'unicast', 'blackhole'] as const) {
    applied(kernel, open(type))
    assert.deepEqual(applied(kernel, open(type)), [], type)
    assert.equal(ipJson('route show table 201')[0].type ?? 'unicast', type)
    assert.equal(ipJson('-6 route show table 201').length, 1)
  }
})

test('a missing library is named with its package', (t) => {
  if (enterFreshNamespace(t) === undefined) return
  const kernel = new HostKernel({ nftLibrary: 'libnftables-not-there.so.1' })
  t.after(() => kernel.close())
  assert.throws(() => kernel.apply(EMPTY_HOST_PLAN), { code: 'nftables.missing', remedy: /libnftables1/ })
})
