import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { fromHex } from '#core/bytes/text.ts'
import { Writer } from '#core/bytes/writer.ts'
import { Fault } from '#core/fault/fault.ts'
import { type Result, unwrap } from '#core/fault/result.ts'
import { ipFromValue } from '#core/ip/address.ts'
import { cidrOf } from '#core/ip/cidr.ts'
import { macFromBytes } from '#core/ip/mac.ts'
import { decodeAcknowledgement } from './acknowledgement.ts'
import { AttributeWriter } from './attribute.ts'
import { decodeEvent } from './event.ts'
import { decodeLink, newLink } from './link.ts'
import { frameMessage, type NetlinkMessage, type NetlinkRequest, splitMessages } from './message.ts'
import { decodeNeighbour, setForwardingEntry, setNeighbour } from './neighbour.ts'
import { changedTable } from './nftables-event.ts'
import { decodeRoute, newRoute, type RouteType } from './route.ts'
import { decodeRule, newRule } from './rule.ts'

const { records } = JSON.parse(readFileSync(new URL('../../test/vectors/netlink.json', import.meta.url), 'utf8')) as {
  records: { request: string; answers: string[] }[]
}
const datagrams = records.flatMap(({ request, answers }) => [request, ...answers]).map((hex) => fromHex(hex)!)

function decodeAll(bytes: Uint8Array): Result<unknown, Fault>[] {
  const messages = splitMessages(bytes)
  if (!messages.ok) return [messages]
  return messages.value.flatMap((message) => [
    decodeEvent(message),
    decodeAcknowledgement(message),
    changedTable(message),
  ])
}
const only = (request: NetlinkRequest): NetlinkMessage => unwrap(splitMessages(frameMessage(request, 0, 7)))[0]!

test('every cut of a recorded datagram decodes or gives a Fault that names an offset', () => {
  for (const datagram of datagrams) {
    for (let end = 0; end < datagram.length; end += 1 + Math.floor(end / 64)) {
      const cut = datagram.slice(0, end)
      // an outer length that fits, so that the inner ones are what lies
      if (end >= 16) new DataView(cut.buffer).setUint32(0, end, true)
      for (const result of decodeAll(cut)) {
        if (!result.ok) assert.match(result.error.message, /offset \d+/)
      }
    }
  }
})

test('a recorded datagram with any bytes changed never throws', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...datagrams.filter((datagram) => datagram.length < 2000)),
      fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 6 }),
      (datagram, changes) => {
        const bytes = datagram.slice()
        for (const [at, value] of changes) bytes[at % bytes.length] = value
        for (const result of decodeAll(bytes)) {
          if (!result.ok) assert.ok(['netlink.malformed', 'bytes.short'].includes(result.error.code))
        }
      },
    ),
    { seed: 112, numRuns: 3000 },
  )
})

test('arbitrary bytes never throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(2, 3, 16, 20, 24, 28, 32, 0x0a06), (body, type) => {
      decodeAll(body)
      decodeAll(frameMessage({ type, flags: 0, body: Uint8Array.from(body) }, 0, 1))
    }),
    { seed: 113, numRuns: 3000 },
  )
})

test('lengths that lie are named with their offset', () => {
  const link = (fill: (attributes: AttributeWriter) => void): string => {
    const attributes = new AttributeWriter(new Writer().zeros(16))
    fill(attributes)
    const result = decodeLink(only({ type: 16, flags: 0, body: attributes.finish() }))
    return result.ok ? 'fine' : result.error.message
  }
  // offsets count from the start of the datagram's body: 16 bytes of ifinfomsg
  assert.match(
    link((to) => to.writer.u16le(3).u16le(4)),
    /attribute 4 says length 3, below its header \(offset 16\)/,
  )
  assert.match(
    link((to) => to.writer.u16le(12).u16le(4).u32le(0)),
    /attribute 4 says 8 bytes, has 4 \(offset 16\)/,
  )
  assert.match(
    link((to) => to.writer.u16le(8)),
    /2 bytes too many \(offset 16\)/,
  )
  assert.match(
    link((to) => to.bytes(4, new Uint8Array(3))),
    /attribute 4 has 3 bytes, not 4 \(offset 16\)/,
  )
  assert.match(
    link((to) => to.nested(18, (info) => info.writer.u16le(100).u16le(1))),
    /attribute 1 says 96 bytes, has 0 \(offset 20\)/,
  )
  assert.equal(
    link((to) => to.bytes(0x1234, new Uint8Array(7)).nested(0x1235, (x) => x.u8(1, 1))),
    'fine',
  )
  const header = (length: number) => new Writer().u32le(length).u16le(16).u16le(0).u32le(0).u32le(0).finish()
  for (const length of [0, 15, 17, 0xffffffff]) assert.equal(splitMessages(header(length)).ok, false, String(length))
  const wrongFamily = new AttributeWriter(new Writer().u8(2).u8(24).zeros(10)).bytes(1, new Uint8Array(16)).finish()
  assert.equal(decodeRoute(only({ type: 24, flags: 0, body: wrongFamily })).ok, false)
  const wrongLength = new Writer().u8(2).u8(33).zeros(10).finish()
  assert.equal(decodeRoute(only({ type: 24, flags: 0, body: wrongLength })).ok, false)
})

const u32 = fc.nat({ max: 0xffffffff })
const family = fc.constantFrom(4 as const, 6 as const)
const ipOf = (of: 4 | 6) =>
  fc.bigInt({ min: 0n, max: (1n << (of === 4 ? 32n : 128n)) - 1n }).map((value) => ipFromValue(of, value))
const mac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(macFromBytes)
const optional = <K extends string, V>(key: K, value: fc.Arbitrary<V>) =>
  fc.option(value, { nil: undefined }).map((v) => (v === undefined ? {} : { [key]: v }) as { [k in K]?: V })

test('what is written is read again: routes', () => {
  const routes = family.chain((of) =>
    fc
      .record({
        ip: ipOf(of),
        length: fc.nat({ max: of === 4 ? 32 : 128 }),
        table: u32.filter((table) => table > 0),
        metric: u32,
        type: fc.constantFrom<RouteType>('unicast', 'local', 'blackhole', 'unreachable'),
        protocol: fc.nat({ max: 255 }),
        rest: fc
          .tuple(
            optional('index', fc.nat()),
            optional('via', ipOf(of)),
            optional('source', ipOf(of)),
            optional('mtu', u32),
          )
          .map((parts) => Object.assign({}, ...parts) as object),
      })
      .map(({ ip, length, rest, ...route }) => ({ ...route, ...rest, destination: cidrOf(ip, length) })),
  )
  fc.assert(
    fc.property(routes, (route) => {
      const seen = unwrap(decodeRoute(only(newRoute(route, 'create'))))
      assert.deepEqual(seen, { ...route, tos: 0, complex: false, cloned: false })
    }),
    { seed: 1 },
  )
})

test('what is written is read again: rules, neighbours, forwarding entries', () => {
  const rules = fc.record({
    family,
    priority: u32,
    mark: u32,
    mask: u32,
    invert: fc.boolean(),
    table: u32,
    protocol: fc.nat({ max: 255 }),
  })
  fc.assert(
    fc.property(rules, (rule) => {
      assert.deepEqual(unwrap(decodeRule(only(newRule(rule)))), { ...rule, complex: false })
    }),
    { seed: 2 },
  )
  const entries = fc.record({ index: fc.nat(), mac, ip: family.chain(ipOf) })
  fc.assert(
    fc.property(entries, fc.nat({ max: 255 }), ({ index, mac: address, ip }, protocol) => {
      const neighbour = { index, ip, mac: address, protocol }
      assert.deepEqual(unwrap(decodeNeighbour(only(setNeighbour(neighbour)))), {
        of: 'neighbour',
        value: { ...neighbour, permanent: true },
      })
      const entry = { index, mac: address, destination: ip }
      assert.deepEqual(unwrap(decodeNeighbour(only(setForwardingEntry(entry)))), {
        of: 'fdb',
        value: { ...entry, permanent: true },
      })
    }),
    { seed: 3 },
  )
})

test('a new link is read again with its kind', () => {
  const vxlan = { vni: 7, port: 8472, local: ipFromValue(6, 5n), learning: false }
  const link = unwrap(decodeLink(only(newLink({ name: 'x', kind: 'vxlan', vxlan, mtu: 1400, gsoMaxSize: 59_000 }))))
  assert.deepEqual(link.kind, { kind: 'vxlan', ...vxlan })
  assert.deepEqual([link.name, link.mtu, link.gsoMaxSize], ['x', 1400, 59_000])
})

test('the end of a capped and of a whole acknowledgement are both found', () => {
  const text = new AttributeWriter().text(1, 'no such thing').u32(2, 40).finish()
  const acknowledgement = (flags: number, echoed: number) => {
    const body = new Writer()
      .i32le(-22)
      .u32le(16 + echoed)
      .zeros(12)
    body.zeros((flags & 0x100) === 0 ? Math.ceil(echoed / 4) * 4 : 0).put(text)
    return decodeAcknowledgement(only({ type: 2, flags, body: body.finish() }))
  }
  const expected = { errno: 22, text: 'no such thing', badOffset: 40 }
  assert.deepEqual(unwrap(acknowledgement(0x200 | 0x100, 30)), expected)
  assert.deepEqual(unwrap(acknowledgement(0x200, 30)), expected)
})
