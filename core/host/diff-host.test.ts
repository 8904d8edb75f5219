import assert from 'node:assert/strict'
import { test } from 'node:test'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import type { Mac } from '#core/ip/mac.ts'
import { diffHost } from './diff-host.ts'
import type { ActualLink, HostActual } from './host-actual.ts'
import { EMPTY_HOST_PLAN, type HostPlan, TABLE_OVERLAY } from './host-plan.ts'
import { describeStep, PHASES, phaseOf } from './host-step.ts'

const ip = (text: string) => requireIp(text, 'test')
const cidr = (text: string) => requireCidr(text, 'test')
const MAC = '0e:04:0a:f4:01:01' as Mac

const PLAN: HostPlan = {
  links: [
    { kind: 'veth', name: 'cilium_host', peer: 'cilium_net', mtu: 1450 },
    { kind: 'vxlan', name: 'cilium_vxlan', mtu: 1430, mac: MAC, vni: 1, port: 8472, local: ip('172.18.0.2') },
    { kind: 'given', name: 'cilium_wg0', mtu: 1370 },
  ],
  addresses: [{ device: 'cilium_host', ip: ip('10.244.1.1'), length: 32 }],
  routes: [
    { table: 201, destination: cidr('10.244.2.0/24'), type: 'unicast', device: 'cilium_wg0', metric: 1024 },
    { table: 201, destination: cidr('10.244.0.0/16'), type: 'blackhole', metric: 9999 },
    { table: 201, destination: cidr('fd00:2::/64'), type: 'unicast', device: 'cilium_vxlan', metric: 0 },
  ],
  rules: [{ family: 4, priority: 201, mark: 0xe00, mask: 0xf00, invert: true, table: 201 }],
  neighbours: [{ device: 'cilium_vxlan', ip: ip('10.244.2.1'), mac: MAC }],
  fdb: [{ device: 'cilium_vxlan', mac: MAC, destination: ip('172.18.0.3') }],
  tables: [{ family: 'inet', name: 'pellicle', body: 'chain a { }' }],
  sysctls: [
    { path: 'net/ipv4/conf/all/rp_filter', value: '0' },
    { path: 'net/ipv4/conf/cilium_vxlan/rp_filter', value: '0' },
    { path: 'net/ipv4/conf/cilium_wg0/rp_filter', value: '0' },
  ],
}
const link = (name: string, rest: Partial<ActualLink>): ActualLink => ({
  name,
  kind: 'veth',
  up: true,
  mtu: 1450,
  silent: true,
  alias: 'pellicle',
  ...rest,
})
const DONE: HostActual = {
  ...PLAN,
  links: [
    link('cilium_host', { peer: 'cilium_net' }),
    link('cilium_net', { peer: 'cilium_host' }),
    link('cilium_vxlan', {
      kind: 'vxlan',
      mtu: 1430,
      mac: MAC,
      vxlan: { vni: 1, port: 8472, local: ip('172.18.0.2'), learning: false },
    }),
    { name: 'cilium_wg0', kind: 'tun', up: true, mtu: 1370 },
    { name: 'eth0', kind: 'physical', up: true, mtu: 1500 },
  ],
  // the kernel says 1024 where an IPv6 route was given none
  routes: PLAN.routes.map((route) => (route.metric === 0 ? { ...route, metric: 1024 } : route)),
  rules: PLAN.rules.map((rule) => ({ ...rule, foreign: false })),
}
const BARE: HostActual = {
  ...EMPTY_HOST_PLAN,
  links: [{ name: 'eth0', kind: 'physical', up: true, mtu: 1500 }],
  sysctls: [{ path: 'net/ipv4/conf/all/rp_filter', value: '1' }],
  routes: [],
  rules: [],
}
const steps = (plan: HostPlan, actual: HostActual) => diffHost(plan, actual).steps.map(describeStep)

test('what is as planned needs no step', () => {
  assert.deepEqual(diffHost(PLAN, DONE), { steps: [], waiting: new Map(), faults: [] })
})

test('from nothing: what closes, then what receives, then what sends; a missing device is waited for', () => {
  const diff = diffHost(PLAN, BARE)
  assert.deepEqual(diff.steps.map(describeStep), [
    'set table inet pellicle',
    'set route blackhole 10.244.0.0/16 table 201 metric 9999',
    'add rule IPv4 201: not fwmark 0xe00/0xf00 lookup 201',
    'create link cilium_host type veth',
    'create link cilium_vxlan type vxlan',
    'set sysctl net/ipv4/conf/all/rp_filter 0',
    'set sysctl net/ipv4/conf/cilium_vxlan/rp_filter 0',
    'add address 10.244.1.1/32 dev cilium_host',
    `set neighbour 10.244.2.1 lladdr ${MAC} dev cilium_vxlan`,
    `set fdb ${MAC} dst 172.18.0.3 dev cilium_vxlan`,
    'set route fd00:2::/64 dev cilium_vxlan table 201 metric 0',
  ])
  assert.deepEqual([...diff.waiting], [['cilium_wg0', 3]])
})

test('to nothing: ways first, what closed them last', () => {
  const list = diffHost(EMPTY_HOST_PLAN, DONE).steps
  assert.deepEqual(list.map(describeStep), [
    `delete neighbour 10.244.2.1 lladdr ${MAC} dev cilium_vxlan`,
    'delete route 10.244.2.0/24 dev cilium_wg0 table 201 metric 1024',
    'delete route fd00:2::/64 dev cilium_vxlan table 201 metric 1024',
    'delete link cilium_host',
    'delete link cilium_vxlan',
    'delete route blackhole 10.244.0.0/16 table 201 metric 9999',
    'delete rule IPv4 201: not fwmark 0xe00/0xf00 lookup 201',
    'delete table inet pellicle',
  ])
  const ranks = list.map((step) => PHASES.indexOf(phaseOf(step)))
  assert.deepEqual(
    ranks,
    ranks.toSorted((a, b) => a - b),
  )
})

test('a route that moves to another table is there before the old one goes', () => {
  const moved = { ...PLAN, routes: PLAN.routes.map((route) => ({ ...route, table: 77 })) }
  const list = steps(moved, DONE)
  const at = (text: string) => list.findIndex((step) => step.startsWith(text))
  assert.ok(at('set route blackhole') < at('set route 10.244.2.0/24'))
  assert.ok(at('set route 10.244.2.0/24') < at('delete route 10.244.2.0/24'))
  assert.ok(at('delete route 10.244.2.0/24') < at('delete route blackhole'))
})

test('what pods send in VXLAN to a node never enters the tunnel that the node itself was reached by', () => {
  const routes = ['10.244.2.0/24', 'fd00:2::/64', '172.18.0.3/32', 'fc00::3/128'].map((destination) => ({
    table: 201,
    destination: cidr(destination),
    type: 'unicast' as const,
    device: 'cilium_wg0',
    metric: 1024,
  }))
  const list = steps({ ...PLAN, routes: [] }, { ...DONE, routes })
  const destinations = list.flatMap((step) => /^delete route (\S+)/.exec(step)?.[1] ?? [])
  assert.deepEqual(destinations, ['172.18.0.3/32', 'fc00::3/128', '10.244.2.0/24', 'fd00:2::/64'])
})

test('what a table marks for a way finds it there', () => {
  const common = { table: TABLE_OVERLAY, destination: cidr('172.18.0.3/32') }
  const routes = [
    { ...common, type: 'unicast' as const, device: 'cilium_wg0', metric: 1024 },
    { ...common, type: 'unreachable' as const, metric: 1_000_000 },
  ]
  const marking = { ...PLAN, routes, tables: [{ family: 'inet' as const, name: 'pellicle', body: 'chain b { }' }] }
  const list = steps(marking, DONE)
  assert.deepEqual(list.slice(0, 3), [
    'set route unreachable 172.18.0.3/32 table 203 metric 1000000',
    'set route 172.18.0.3/32 dev cilium_wg0 table 203 metric 1024',
    'set table inet pellicle',
  ])
  // the kernel takes no route by a device that is down
  const down = DONE.links.map((link) => (link.name === 'cilium_wg0' ? { ...link, up: false } : link))
  const late = steps(marking, { ...DONE, links: down })
  assert.ok(
    late.indexOf('set link cilium_wg0 up true') < late.findIndex((step) => step.includes('dev cilium_wg0 table 203')),
  )
})

test('one difference is one step', () => {
  const cases: readonly (readonly [change: Partial<HostActual>, expected: string[]])[] = [
    [{ tables: [{ family: 'inet', name: 'pellicle' }] }, ['set table inet pellicle']],
    [{ tables: [{ family: 'inet', name: 'pellicle', body: 'chain b { }' }] }, ['set table inet pellicle']],
    [{ rules: [] }, ['add rule IPv4 201: not fwmark 0xe00/0xf00 lookup 201']],
    [
      { rules: [...DONE.rules, { ...PLAN.rules[0]!, priority: 9, foreign: true }] },
      // somebody used our protocol for a rule that we cannot even write: left alone
      [],
    ],
    [
      { routes: DONE.routes.map((route) => ({ ...route, mtu: 1 })) },
      [
        'set route blackhole 10.244.0.0/16 table 201 metric 9999',
        'set route 10.244.2.0/24 dev cilium_wg0 table 201 metric 1024',
        'set route fd00:2::/64 dev cilium_vxlan table 201 metric 0',
      ],
    ],
    [
      { addresses: [...DONE.addresses, { device: 'eth0', ip: ip('192.0.2.1'), length: 24 }] },
      // not a device of the plan
      [],
    ],
  ]
  for (const [change, expected] of cases) assert.deepEqual(steps(PLAN, { ...DONE, ...change }), expected)
})

test('a device that is made anew gets everything that stood on it again', () => {
  const other = DONE.links.map((one) => (one.vxlan === undefined ? one : { ...one, vxlan: { ...one.vxlan, vni: 9 } }))
  const list = steps(PLAN, { ...DONE, links: other })
  assert.deepEqual(list, [
    'create link cilium_vxlan type vxlan',
    'set sysctl net/ipv4/conf/cilium_vxlan/rp_filter 0',
    `set neighbour 10.244.2.1 lladdr ${MAC} dev cilium_vxlan`,
    `set fdb ${MAC} dst 172.18.0.3 dev cilium_vxlan`,
    'set route fd00:2::/64 dev cilium_vxlan table 201 metric 0',
  ])
})

test('a link of another kind is never touched, nor is the far end of a stranger’s pair', () => {
  const taken = DONE.links.map(
    (one): ActualLink => (one.name === 'cilium_net' ? { name: one.name, kind: 'bridge', up: true, mtu: 1 } : one),
  )
  const diff = diffHost(PLAN, { ...DONE, links: taken.filter((one) => one.name !== 'cilium_host') })
  assert.deepEqual(
    diff.faults.map((fault) => [fault.code, fault.field]),
    [['host.link.taken', 'link/cilium_net']],
  )
  assert.deepEqual(diff.steps, [])
  assert.deepEqual([...diff.waiting], [['cilium_host', 1]])
})
