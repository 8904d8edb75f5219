import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Reader } from '#core/bytes/reader.ts'
import { fromHex, toHex } from '#core/bytes/text.ts'
import { unwrap } from '#core/fault/result.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import type { Mac } from '#core/ip/mac.ts'
import { decodeAcknowledgement } from './acknowledgement.ts'
import { decodeAddress, newAddress } from './address.ts'
import { readAttributes } from './attribute.ts'
import { decodeLink, newLink, setLink } from './link.ts'
import {
  frameMessage,
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_ACK,
  NLM_F_REQUEST,
  NLMSG_ERROR,
  splitMessages,
} from './message.ts'
import { decodeNeighbour, setForwardingEntry, setNeighbour } from './neighbour.ts'
import { decodeRoute, deleteRoute, newRoute } from './route.ts'
import { RTM_SETLINK } from './rtnetlink.ts'
import { decodeRule, newRule } from './rule.ts'

/** Bytes that iproute2 sent and the kernel answered (test/vectors/netlink.json says how they were recorded). */
interface Recorded {
  readonly command: string
  readonly request: string
  readonly answers: readonly string[]
}
const { records } = JSON.parse(readFileSync(new URL('../../test/vectors/netlink.json', import.meta.url), 'utf8')) as {
  records: Recorded[]
}

function recorded(command: string): Recorded {
  const found = records.find((record) => record.command === command)
  assert.ok(found, command)
  return found
}
const messages = (hex: string) => unwrap(splitMessages(fromHex(hex)!))
const answers = (command: string, type: number): NetlinkMessage[] =>
  recorded(command)
    .answers.flatMap(messages)
    .filter((message) => message.type === type)

const addr = (text: string) => requireIp(text, 'test')
const cidr = (text: string) => requireCidr(text, 'test')
/** Indexes in the recording. */
const [PNV0, PNX0] = [3, 4]

/** The fixed structure and the attributes in the order of their types; "nested" is only a remark. */
function normal(message: NetlinkMessage, headerBytes: number) {
  const reader = new Reader(message.body)
  const header = toHex(reader.take(headerBytes))
  const attributes = readAttributes(reader).map(({ type, reader: value }) => `${type}: ${toHex(value.rest())}`)
  return { type: message.type, flags: message.flags, header, attributes: attributes.sort() }
}

const IFINFO = 16
const cases: readonly (readonly [command: string, headerBytes: number, ours: NetlinkRequest])[] = [
  ['ip link set pnv0 alias pellicle', IFINFO, setLink(PNV0, { alias: 'pellicle' })],
  ['ip link set pnv0 gso_max_size 59000', IFINFO, setLink(PNV0, { gsoMaxSize: 59_000 })],
  ['ip link set pnv0 up', IFINFO, setLink(PNV0, { up: true })],
  ['ip addr add 10.244.1.1/32 dev pnv0', 8, newAddress({ index: PNV0, ip: addr('10.244.1.1'), length: 32 })],
  ['ip -6 addr add fd00:1::1/128 dev pnv0 nodad', 8, newAddress({ index: PNV0, ip: addr('fd00:1::1'), length: 128 })],
  [
    'ip route add blackhole 10.244.0.0/16 table 201 metric 1000000 proto 112',
    12,
    newRoute(
      { table: 201, destination: cidr('10.244.0.0/16'), type: 'blackhole', metric: 1_000_000, protocol: 112 },
      'create',
    ),
  ],
  [
    'ip route add unreachable 10.244.0.0/16 table 200 metric 9 proto 112',
    12,
    newRoute(
      { table: 200, destination: cidr('10.244.0.0/16'), type: 'unreachable', metric: 9, protocol: 112 },
      'create',
    ),
  ],
  [
    'ip route add 10.244.2.0/24 via 10.244.2.1 dev pnx0 onlink src 10.244.1.1 metric 1024 mtu 1400 proto 112',
    12,
    newRoute(
      {
        table: 254,
        destination: cidr('10.244.2.0/24'),
        type: 'unicast',
        index: PNX0,
        via: addr('10.244.2.1'),
        onlink: true,
        source: addr('10.244.1.1'),
        metric: 1024,
        mtu: 1400,
        protocol: 112,
      },
      'create',
    ),
  ],
  [
    'ip route replace 10.244.3.0/24 dev pnv0 table 1000 metric 5 proto 112 mtu 1300',
    12,
    newRoute(
      {
        table: 1000,
        destination: cidr('10.244.3.0/24'),
        type: 'unicast',
        index: PNV0,
        metric: 5,
        mtu: 1300,
        protocol: 112,
      },
      'replace',
    ),
  ],
  [
    'ip route add local 10.9.0.0/16 dev lo table 1000 proto 112',
    12,
    newRoute(
      { table: 1000, destination: cidr('10.9.0.0/16'), type: 'local', index: 1, metric: 0, protocol: 112 },
      'create',
    ),
  ],
  [
    'ip -6 route add fd00:2::/64 via fd00:2::1 dev pnx0 onlink metric 1024 proto 112',
    12,
    newRoute(
      {
        table: 254,
        destination: cidr('fd00:2::/64'),
        type: 'unicast',
        index: PNX0,
        via: addr('fd00:2::1'),
        onlink: true,
        metric: 1024,
        protocol: 112,
      },
      'create',
    ),
  ],
  [
    'ip rule add not fwmark 0xe00/0xf00 lookup 201 priority 201 proto 112',
    12,
    newRule({ family: 4, priority: 201, mark: 0xe00, mask: 0xf00, invert: true, table: 201, protocol: 112 }),
  ],
  [
    'ip -6 rule add fwmark 0xe00/0xf00 lookup 1000 priority 200 proto 112',
    12,
    newRule({ family: 6, priority: 200, mark: 0xe00, mask: 0xf00, invert: false, table: 1000, protocol: 112 }),
  ],
  [
    'ip neigh replace 10.244.2.1 lladdr 0e:04:0a:f4:02:01 dev pnx0 nud permanent proto 112',
    12,
    setNeighbour({ index: PNX0, ip: addr('10.244.2.1'), mac: '0e:04:0a:f4:02:01' as Mac, protocol: 112 }),
  ],
  [
    'bridge fdb replace 0e:04:0a:f4:02:01 dev pnx0 dst 172.18.0.3 self permanent',
    12,
    setForwardingEntry({ index: PNX0, mac: '0e:04:0a:f4:02:01' as Mac, destination: addr('172.18.0.3') }),
  ],
  [
    'ip route del 10.244.3.0/24 dev pnv0 table 1000 metric 5 proto 112',
    12,
    deleteRoute({
      table: 1000,
      destination: cidr('10.244.3.0/24'),
      type: 'unicast',
      index: PNV0,
      metric: 5,
      protocol: 112,
    }),
  ],
]

for (const [command, headerBytes, ours] of cases) {
  test(`we ask as iproute2 does: ${command}`, () => {
    const [theirs] = messages(recorded(command).request)
    const [mine] = unwrap(splitMessages(frameMessage(ours, NLM_F_REQUEST | NLM_F_ACK, 1)))
    const expected = normal(theirs!, headerBytes)
    // RTM_SETLINK is RTM_NEWLINK that never creates
    if (ours.type === RTM_SETLINK) expected.type = RTM_SETLINK
    assert.deepEqual(normal(mine!, headerBytes), expected)
  })
}

test('a veth pair and a VXLAN device are asked for with the same attributes', () => {
  const link = { name: 'pnv0', mtu: 1450, mac: '02:00:00:00:00:01' as Mac }
  const pair = newLink({ ...link, kind: 'veth', peer: { name: 'pnv1', mtu: 1450 } })
  const vxlan = newLink({
    name: 'pnx0',
    mtu: 1430,
    mac: '0e:04:0a:f4:01:01' as Mac,
    kind: 'vxlan',
    vxlan: { vni: 1, port: 8472, local: addr('172.18.0.2'), learning: false },
  })
  for (const [command, ours] of [
    ['ip link add pnv0 mtu 1450 address 02:00:00:00:00:01 type veth peer name pnv1 mtu 1450', pair],
    [
      'ip link add pnx0 mtu 1430 address 0e:04:0a:f4:01:01 type vxlan id 1 dstport 8472 local 172.18.0.2 nolearning',
      vxlan,
    ],
  ] as const) {
    const [theirs] = messages(recorded(command).request)
    const [mine] = unwrap(splitMessages(frameMessage(ours, NLM_F_REQUEST | NLM_F_ACK, 1)))
    const [a, b] = [unwrap(decodeLink(mine!)), unwrap(decodeLink(theirs!))]
    assert.deepEqual(a, b)
    assert.equal(mine!.flags, theirs!.flags)
  }
})

test('links are read: veth, vxlan, tun, and what has no kind', () => {
  const links = answers('ip -d link show', 16).map((message) => unwrap(decodeLink(message)))
  const named = new Map(links.map((link) => [link.name, link]))
  assert.deepEqual(named.get('pnv0'), {
    index: PNV0,
    name: 'pnv0',
    up: true,
    running: true,
    loopback: false,
    mtu: 1450,
    mac: '02:00:00:00:00:01',
    alias: 'pellicle',
    gsoMaxSize: 59_000,
    gsoMaxSegs: 65_535,
    groMaxSize: 65_536,
    peerIndex: named.get('pnv1')?.index,
    addrGenMode: 1,
    operState: 6,
    kind: { kind: 'veth' },
  })
  assert.deepEqual(named.get('pnx0')?.kind, {
    kind: 'vxlan',
    vni: 1,
    port: 8472,
    local: '172.18.0.2',
    learning: false,
  })
  const tun = named.get('pnt0')
  assert.deepEqual(tun?.kind, { kind: 'tun', tap: false, vnetHeader: false, persistent: true })
  assert.equal(tun?.mac, undefined)
  assert.equal(named.get('lo')?.loopback, true)
  assert.deepEqual(named.get('lo')?.kind, { kind: undefined })
})

test('addresses, routes, rules, neighbours and forwarding entries are read', () => {
  const addresses = answers('ip addr show', 20).map((message) => unwrap(decodeAddress(message)))
  assert.deepEqual(
    addresses.filter((address) => address?.index === PNV0 && address.scope === 'global'),
    [
      { index: PNV0, ip: '10.244.1.1', length: 32, scope: 'global', permanent: true },
      { index: PNV0, ip: 'fd00:1::1', length: 128, scope: 'global', permanent: true },
    ],
  )
  const ours = (command: string) =>
    answers(command, 24)
      .map((message) => unwrap(decodeRoute(message)))
      .filter((route) => route?.protocol === 112)
  const common = { protocol: 112, tos: 0, complex: false, cloned: false }
  const routes = ours('ip -4 route show table all')
  assert.equal(routes.length, 5)
  assert.deepEqual(
    routes.find((route) => route?.via !== undefined),
    {
      ...common,
      table: 254,
      destination: '10.244.2.0/24',
      type: 'unicast',
      index: PNX0,
      via: '10.244.2.1',
      onlink: true,
      source: '10.244.1.1',
      metric: 1024,
      mtu: 1400,
    },
  )
  assert.deepEqual(
    routes.find((route) => route?.type === 'blackhole'),
    { ...common, table: 201, destination: '10.244.0.0/16', type: 'blackhole', metric: 1_000_000 },
  )
  assert.deepEqual(
    routes.filter((route) => route?.table === 1000).map((route) => [route?.type, route?.destination, route?.mtu]),
    [
      ['local', '10.9.0.0/16', undefined],
      ['unicast', '10.244.3.0/24', 1300],
    ],
  )
  const [six] = ours('ip -6 route show table all')
  assert.deepEqual(six, {
    ...common,
    table: 254,
    destination: 'fd00:2::/64',
    type: 'unicast',
    index: PNX0,
    via: 'fd00:2::1',
    onlink: true,
    metric: 1024,
  })
  const rules = answers('ip -4 rule show', 32).map((message) => unwrap(decodeRule(message)))
  assert.deepEqual(
    rules.find((rule) => rule?.protocol === 112),
    { family: 4, priority: 201, mark: 0xe00, mask: 0xf00, invert: true, table: 201, protocol: 112, complex: false },
  )
  const neighbours = answers('ip neigh show dev pnx0', 28).map((message) => unwrap(decodeNeighbour(message)))
  assert.deepEqual(neighbours.find((seen) => seen?.of === 'neighbour' && seen.value.permanent)?.value, {
    index: PNX0,
    ip: '10.244.2.1',
    mac: '0e:04:0a:f4:02:01',
    protocol: 112,
    permanent: true,
  })
  const fdb = answers('bridge fdb show dev pnx0', 28).map((message) => unwrap(decodeNeighbour(message)))
  assert.deepEqual(fdb, [
    {
      of: 'fdb',
      value: { index: PNX0, mac: '0e:04:0a:f4:02:01', destination: '172.18.0.3', permanent: true },
    },
  ])
})

test('acknowledgements: success, an error, and the kernel’s own sentence', () => {
  const last = (command: string) => unwrap(decodeAcknowledgement(answers(command, NLMSG_ERROR).at(-1)!))
  assert.deepEqual(last('ip rule del priority 201'), { errno: 0 })
  assert.equal(last('ip link add pnv0 type veth peer name zz').errno, 17)
  const route = last('ip route add 10.250.0.0/24 via 192.0.2.1')
  assert.deepEqual(route, { errno: 101, text: 'Nexthop has invalid gateway' })
})
