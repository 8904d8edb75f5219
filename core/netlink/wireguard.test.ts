import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { toHex } from '#core/bytes/text.ts'
import { Writer } from '#core/bytes/writer.ts'
import { unwrap } from '#core/fault/result.ts'
import { ipFromValue, requireIp } from '#core/ip/address.ts'
import { cidrOf, requireCidr } from '#core/ip/cidr.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { asMessage, loadVectors, recorded } from '#test/kernel/vectors.ts'
import { decodeAcknowledgement } from './acknowledgement.ts'
import { AttributeWriter } from './attribute.ts'
import { beginGeneric, decodeFamily, getFamily } from './generic.ts'
import { decodeLink, newLink } from './link.ts'
import { type NetlinkMessage, NLM_F_REQUEST } from './message.ts'
import { changeWireguard, type WireguardChange } from './wireguard-change.ts'
import { decodeWireguard, getWireguard } from './wireguard-device.ts'

const vectors = loadVectors('netlink-wireguard')
const of = (command: string) => recorded(vectors, command)
const keyOf = (byte: number) => publicKeyOf(new Uint8Array(32).fill(byte))
const MANY = Array.from({ length: 420 }, (_, i) => requireCidr(`10.${100 + (i >> 8)}.${i & 255}.0/24`, 'test'))
/** Where wg cuts its messages: one page. */
const PAGE = 4096

/** The family's number in the recording, from the kernel's own answer. */
const family = of('wg show w dump')
  .answers.map((message) => unwrap(decodeFamily(message)))
  .find((found) => found !== undefined)
assert.ok(family)

test('the family is asked for as wg does, and found with its groups', () => {
  const asked = of('wg show w dump').requests[0]
  assert.equal(toHex(asMessage(getFamily('wireguard')).body), toHex(asked?.body ?? new Uint8Array()))
  assert.deepEqual({ ...family, id: 0, groups: {} }, { id: 0, name: 'wireguard', version: 1, groups: {} })
  assert.ok(family.id >= 16)
})

const changes: readonly (readonly [command: string, change: WireguardChange])[] = [
  ['wg set w private-key', { name: 'w', privateKey: new Uint8Array(32).fill(0x70), listenPort: 51871, mark: 0xe00 }],
  [
    `wg set w peer ${keyOf(1)}`,
    {
      name: 'w',
      peers: [
        {
          publicKey: keyOf(1),
          replaceAllowedIps: true,
          endpoint: { ip: requireIp('192.0.2.1', 'test'), port: 51871 },
          persistentKeepalive: 25,
          allowedIps: [requireCidr('10.1.0.0/24', 'test'), requireCidr('fd01::/64', 'test')],
        },
      ],
    },
  ],
  [
    `wg set w peer ${keyOf(2)}`,
    {
      name: 'w',
      peers: [
        {
          publicKey: keyOf(2),
          replaceAllowedIps: true,
          presharedKey: new Uint8Array(32).fill(0x71),
          endpoint: { ip: requireIp('2001:db8::7', 'test'), port: 4711 },
          allowedIps: MANY,
        },
      ],
    },
  ],
  [`wg set w peer ${keyOf(3)} remove`, { name: 'w', peers: [{ publicKey: keyOf(3), remove: true }] }],
]

for (const [command, change] of changes) {
  test(`we ask as wg does, byte for byte: ${command}`, () => {
    const theirs = of(command).requests.filter(({ type }) => type === family.id)
    const ours = changeWireguard(family.id, change, PAGE).map((request) => asMessage(request))
    assert.deepEqual(
      ours.map(({ body }) => toHex(body)),
      theirs.map(({ body }) => toHex(body)),
    )
  })
}

test('a device of several messages is put together again', () => {
  const { requests, answers } = of('wg show w dump')
  const parts = answers.filter(({ type }) => type === family.id)
  assert.ok(parts.length >= 3)
  const ask = requests.find(({ type }) => type === family.id)
  assert.equal(toHex(getWireguard(family.id, 'w').body), toHex(ask?.body ?? new Uint8Array()))
  const device = unwrap(decodeWireguard(parts))
  assert.ok(device)
  const { peers, publicKey, ...rest } = device
  assert.deepEqual({ ...rest, index: 0 }, { name: 'w', index: 0, listenPort: 51871, mark: 0xe00 })
  assert.match(publicKey ?? '', /^[A-Za-z0-9+/]{43}=$/)
  const common = { rxBytes: 0n, txBytes: 0n }
  assert.deepEqual(
    peers.toSorted((a, b) => (a.publicKey < b.publicKey ? -1 : 1)),
    [
      {
        ...common,
        publicKey: keyOf(1),
        endpoint: { ip: '192.0.2.1', port: 51871 },
        persistentKeepalive: 25,
        presharedKey: false,
        allowedIps: ['10.1.0.0/24', 'fd01::/64'],
      },
      {
        ...common,
        publicKey: keyOf(2),
        endpoint: { ip: '2001:db8::7', port: 4711 },
        persistentKeepalive: 0,
        presharedKey: true,
        allowedIps: MANY,
      },
      { ...common, publicKey: keyOf(3), persistentKeepalive: 0, presharedKey: false, allowedIps: [] },
    ],
  )
})

test('a device that is not there is refused by number', () => {
  const last = of('wg show none').answers.at(-1)
  assert.ok(last)
  assert.equal(unwrap(decodeAcknowledgement(last)).errno, 19)
})

test('a link of that kind is asked for as ip does, and read', () => {
  const { requests } = recorded(loadVectors('netlink-xfrm'), 'ip link add w type wireguard')
  const theirs = requests.at(-1)
  assert.ok(theirs)
  const ours = asMessage(newLink({ name: 'w', kind: 'wireguard' }), NLM_F_REQUEST)
  assert.deepEqual(unwrap(decodeLink(ours)), unwrap(decodeLink(theirs)))
  const shown = recorded(loadVectors('netlink-xfrm'), 'ip link show dev w').answers.map((message) =>
    decodeLink(message),
  )
  assert.ok(shown.some((link) => link.ok && link.value.kind.kind === 'wireguard' && link.value.name === 'w'))
})

const cidr = fc.oneof(
  fc
    .tuple(fc.bigInt({ min: 0n, max: 2n ** 32n - 1n }), fc.nat({ max: 32 }))
    .map(([value, length]) => cidrOf(ipFromValue(4, value), length)),
  fc
    .tuple(fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }), fc.nat({ max: 128 }))
    .map(([value, length]) => cidrOf(ipFromValue(6, value), length)),
)

test('what is split over messages is whole again, however little room there is, and no message has more', () => {
  const peers = fc.uniqueArray(
    fc.record(
      {
        publicKey: fc.uint8Array({ minLength: 32, maxLength: 32 }).map(publicKeyOf),
        allowedIps: fc.array(cidr, { maxLength: 60 }),
      },
      { noNullPrototype: true },
    ),
    { selector: ({ publicKey }) => publicKey, maxLength: 12 },
  )
  fc.assert(
    fc.property(peers, fc.integer({ min: 220, max: 3000 }), (wanted, room) => {
      const messages = changeWireguard(family.id, { name: 'w', peers: wanted }, room).map((request) => {
        // the answer has another command, and the same attributes
        const body = request.body.slice()
        body[0] = 0
        return asMessage({ ...request, body })
      })
      for (const { body } of messages) assert.ok(body.length + 16 <= room)
      const device = unwrap(decodeWireguard(messages))
      assert.deepEqual(
        device?.peers.map(({ publicKey, allowedIps }) => ({ publicKey, allowedIps })),
        wanted,
      )
    }),
    { seed: 6, numRuns: 300 },
  )
})

test('what lies is named with its offset, what is not known is skipped', () => {
  const decode = (fill: (to: AttributeWriter) => void) => {
    const to = beginGeneric(0, 1)
    fill(to)
    const result = decodeWireguard([asMessage({ type: family.id, flags: 0, body: to.finish() })])
    return result.ok ? 'fine' : result.error.message
  }
  const inPeer = (fill: (peer: AttributeWriter) => void) =>
    decode((to) => to.nested(8, (peers) => peers.nested(0, (peer) => fill(peer.bytes(1, new Uint8Array(32).fill(9))))))
  assert.equal(
    inPeer((peer) => peer.bytes(999, new Uint8Array(3)).nested(9, (list) => list.nested(0, (ip) => ip.u16(1, 77)))),
    'fine',
  )
  assert.match(
    decode((to) => to.bytes(4, new Uint8Array(31))),
    /has 31 bytes, not 32 \(offset 4\)/,
  )
  assert.match(
    decode((to) => to.nested(8, (peers) => peers.nested(0, (peer) => peer.u8(77, 1)))),
    /without a public key/,
  )
  assert.match(
    inPeer((peer) => peer.bytes(4, new Uint8Array(15).fill(2, 0, 1))),
    /has 15 bytes, not 16 \(offset 48\)/,
  )
  assert.match(
    inPeer((peer) => peer.bytes(4, new Uint8Array(1))),
    /no socket address \(offset 48\)/,
  )
  const allowed = (bytes: number, length: number) =>
    inPeer((peer) =>
      peer.nested(9, (list) => list.nested(0, (ip) => ip.u16(1, 2).bytes(2, new Uint8Array(bytes)).u8(3, length))),
    )
  assert.equal(allowed(4, 32), 'fine')
  assert.match(allowed(16, 32), /no IPv4 prefix \(offset 52\)/)
  assert.match(allowed(4, 33), /no IPv4 prefix \(offset 52\)/)
  assert.equal(decodeFamily(asMessage({ type: 16, flags: 0, body: new Writer().u8(1).zeros(3).finish() })).ok, false)
})

test('every cut and every change of a recorded answer decodes or gives a Fault', () => {
  const bodies = vectors.records
    .flatMap(({ command }) => of(command).answers)
    .filter(({ type, body }) => type === family.id && body.length > 0)
  const decode = (message: NetlinkMessage, body: Uint8Array) => {
    for (const result of [decodeWireguard([{ ...message, body }]), decodeFamily({ ...message, type: 16, body })]) {
      if (!result.ok) assert.ok(['netlink.malformed', 'bytes.short'].includes(result.error.code))
    }
  }
  for (const message of bodies) {
    for (let end = 0; end < message.body.length; end += 1 + (end >> 5)) decode(message, message.body.subarray(0, end))
  }
  fc.assert(
    fc.property(
      fc.constantFrom(...bodies),
      fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 6 }),
      (message, bytes) => {
        const body = message.body.slice()
        for (const [at, value] of bytes) body[at % body.length] = value
        decode(message, body)
      },
    ),
    { seed: 7, numRuns: 1000 },
  )
})
