import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { requireIp } from '#core/ip/address.ts'
import { wireguardCrypto as crypto } from '#io/crypto/wireguard-crypto.ts'
import { seededRandom } from '#test/kit/seeded-random.ts'
import { CookieChecker, MacSigner } from './cookie.ts'
import { buildCookieReply, buildData, buildInitiation, buildResponse, parseMessage } from './message.ts'
import { compareTai64n, tai64nAfter, tai64nOf } from './tai64n.ts'

const fill = (length: number, value: number) => new Uint8Array(length).fill(value)

test('the four messages have the lengths and fields of the paper', () => {
  const initiation = buildInitiation(0x01020304, fill(108, 9))
  assert.equal(initiation.length, 148)
  assert.deepEqual([...initiation.subarray(0, 9)], [1, 0, 0, 0, 4, 3, 2, 1, 9])
  const response = parseMessage(buildResponse(5, 0xfffffffe, fill(48, 8)))
  assert.ok(response?.type === 'response' && response.sender === 5 && response.receiver === 0xfffffffe)
  assert.deepEqual([...response.noise], [...fill(48, 8)])
  const cookie = parseMessage(buildCookieReply(7, fill(24, 1), fill(32, 2)))
  assert.ok(cookie?.type === 'cookie' && cookie.receiver === 7 && cookie.nonce[23] === 1 && cookie.cookie[0] === 2)
  const data = parseMessage(buildData(8, 2n ** 63n, fill(16, 3)))
  assert.ok(data?.type === 'data' && data.counter === 2n ** 63n && data.packet.length === 16)
})

test('every type with every length: only the right ones are taken', () => {
  const lengths: Record<number, (length: number) => boolean> = {
    1: (length) => length === 148,
    2: (length) => length === 92,
    3: (length) => length === 64,
    4: (length) => length >= 32,
  }
  for (let type = 0; type < 256; type++) {
    for (let length = 0; length < 200; length++) {
      const bytes = fill(length, 0)
      if (length > 0) bytes[0] = type
      assert.equal(
        parseMessage(bytes) !== undefined,
        length > 0 && (lengths[type]?.(length) ?? false),
        `${type} ${length}`,
      )
    }
  }
  for (const reserved of [1, 2, 3]) {
    const bytes = buildInitiation(1, fill(108, 0))
    bytes[reserved] = 1
    assert.equal(parseMessage(bytes), undefined)
  }
})

test('random bytes never throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => void parseMessage(bytes)),
    { seed: 9 },
  )
})

test('TAI64N labels order as time does, coarse enough to tell little', () => {
  const times = fc.integer({ min: 0, max: 4_000_000_000_000 })
  fc.assert(
    fc.property(times, times, (a, b) => {
      const order = compareTai64n(tai64nOf(a), tai64nOf(b))
      if (Math.abs(a - b) > 17) assert.equal(Math.sign(order), Math.sign(a - b))
      const after = tai64nAfter(tai64nOf(a))
      assert.ok(compareTai64n(after, tai64nOf(a)) > 0)
      assert.ok(compareTai64n(after, tai64nOf(a + 40)) <= 0)
    }),
    { seed: 2 },
  )
  assert.deepEqual([...tai64nOf(0)], [0x40, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0])
  assert.equal(tai64nOf(1234)[11], 0)
})

const source = { ip: requireIp('192.0.2.1', ''), port: 1000, scope: 0 }
const secondSource = { ...source, port: 1001 }

test('a cookie makes mac2 right for its address and for two minutes', () => {
  const publicKey = fill(32, 5)
  const checker = new CookieChecker(crypto, seededRandom(1), publicKey)
  const signer = new MacSigner(crypto, publicKey)
  const message = buildInitiation(77, fill(108, 1))
  signer.sign(0, message)
  assert.ok(checker.checkMac1(message))
  assert.ok(!checker.checkMac2(0, message, source))
  const forged = message.slice()
  forged[20]! ^= 1
  assert.ok(!checker.checkMac1(forged))

  const reply = parseMessage(checker.reply(0, message, 77, source))
  assert.ok(reply?.type === 'cookie' && reply.receiver === 77)
  const bad = reply.cookie.slice()
  bad[0]! ^= 1
  assert.ok(!signer.handleReply(0, reply.nonce, bad))
  assert.ok(signer.handleReply(0, reply.nonce, reply.cookie))
  assert.ok(!signer.handleReply(0, reply.nonce, reply.cookie), 'only once')

  const second = buildInitiation(78, fill(108, 2))
  signer.sign(100_000, second)
  assert.ok(checker.checkMac1(second) && checker.checkMac2(100_000, second, source))
  assert.ok(!checker.checkMac2(100_000, second, secondSource))
  assert.ok(!checker.checkMac2(120_000, second, source), 'the secret is too old')
  const third = buildInitiation(79, fill(108, 3))
  signer.sign(115_000, third)
  assert.deepEqual([...third.subarray(132)], [...fill(16, 0)], 'the cookie is not used any more')
})
