import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { fromHex, toHex } from '#core/bytes/text.ts'
import { Fault } from '#core/fault/fault.ts'
import { type Ip, parseIp } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import { decodeEvent, encodeEvent } from './event.ts'
import { FrameSplitter, MAX_FRAME } from './frames.ts'
import { decodeRequest, encodeRequest } from './request.ts'

interface Frame {
  name: string
  direction: string
  type: number
  hex: string
  fields: Record<string, unknown>
}

const file = new URL('../../test/vectors/engine-protocol.json', import.meta.url)
const { frames } = JSON.parse(readFileSync(file, 'utf8')) as { frames: Frame[] }
const bytesOf = (frame: Frame) => fromHex(frame.hex) as Uint8Array
const toKeeper = frames.filter((f) => f.direction === 'engine to keeper')
const toEngine = frames.filter((f) => f.direction !== 'engine to keeper')
const NAMES = { role: ['', 'initiator', 'responder'], place: ['previous', 'current', 'next'] }
const STATUSES = ['done', 'absent', 'full', 'malformed']
const REASONS = ['', 'waiting', 'old-sending', 'old-receiving']
const TIMES = new Set([
  'firstUnanswered',
  'firstUnacknowledged',
  'lastSent',
  'lastReceived',
  'lastAuthenticated',
  'born',
])

/** The vector's fields in the shape that our decoder gives. */
function expected(fields: Record<string, unknown>): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(fields)) {
    if (value === null) out[name] = undefined
    else if (TIMES.has(name)) out[name] = Number(value) / 1e6
    else if (['rxBytes', 'txBytes', 'sent', 'received'].includes(name)) out[name] = BigInt(value as string)
    else if (name === 'publicKey') out[name] = Buffer.from(value as string, 'hex').toString('base64')
    else if (name === 'message' || name.endsWith('Key')) out[name] = new Uint8Array(Buffer.from(value as string, 'hex'))
    else if (name === 'role' || name === 'place') out[name] = NAMES[name][value as number]
    else if (name === 'status') out[name] = STATUSES[value as number]
    else if (name === 'reason') out[name] = REASONS[value as number]
    else if (Array.isArray(value))
      out[name] = value.map((v: unknown) => (typeof v === 'object' ? expected(v as Record<string, unknown>) : v))
    else if (typeof value === 'object') out[name] = expected(value as Record<string, unknown>)
    else if (name === 'address') out.ip = value
    else if (name !== 'family') out[name] = value
  }
  return out
}

test("events are decoded as the engine's own vectors say", () => {
  assert.ok(toKeeper.length >= 10)
  for (const frame of toKeeper) {
    const { type, ...event } = decodeEvent(bytesOf(frame).subarray(4))!
    assert.equal(type, frame.name.toLowerCase())
    const wanted = expected(frame.fields)
    if (frame.name === 'PEER') {
      delete wanted.rxBytes
      delete wanted.txBytes
    }
    assert.deepEqual(event, wanted, frame.name)
  }
})

test("requests are encoded as the engine's own vectors say", () => {
  assert.ok(toEngine.length >= 12)
  for (const frame of toEngine) {
    const { id, request } = decodeRequest(bytesOf(frame).subarray(4))
    const { op, ...fields } = request
    assert.equal(
      op,
      frame.name.toLowerCase().replace(/_(.)/g, (_, c: string) => c.toUpperCase()),
    )
    assert.deepEqual({ request: id, ...fields }, expected(frame.fields), frame.name)
    assert.equal(toHex(encodeRequest(id, request)), frame.hex, frame.name)
  }
})

test('what is decoded is encoded alike', () => {
  for (const frame of toKeeper) {
    // times near 2^64 do not fit our milliseconds
    if (frame.hex.includes('ffffffffffffffff') || frame.hex.includes('0807060504030201')) continue
    assert.equal(toHex(encodeEvent(decodeEvent(bytesOf(frame).subarray(4))!)), frame.hex, frame.name)
  }
})

test('a frame that is cut or too long is a fault, never a wrong value', () => {
  const whole = (bytes: Uint8Array, decode: (body: Uint8Array) => unknown, open: boolean) => {
    for (let length = 0; length < bytes.length; length++) {
      try {
        decode(bytes.subarray(0, length))
        assert.ok(open, `cut at ${length} was taken`)
      } catch (error) {
        assert.ok(error instanceof Fault, String(error))
      }
    }
    const longer = new Uint8Array([...bytes, 0])
    if (!open) assert.throws(() => decode(longer), Fault)
  }
  for (const frame of toKeeper) {
    whole(bytesOf(frame).subarray(4), decodeEvent, ['HELLO', 'REPLY', 'HANDSHAKE'].includes(frame.name))
  }
  for (const frame of toEngine) whole(bytesOf(frame).subarray(4), decodeRequest, frame.name === 'SEND')
  assert.equal(decodeEvent(Uint8Array.of(0x7f, 1, 2)), undefined, 'an unknown type is ignored')
})

test('random bytes give an event, nothing, or a fault', () => {
  const body = fc.tuple(fc.constantFrom(1, 2, 3, 4, 5, 0x10, 0x11, 0x12, 0x13, 0x14), fc.uint8Array({ maxLength: 200 }))
  fc.assert(
    fc.property(body, ([type, rest]) => {
      for (const decode of [decodeEvent, decodeRequest]) {
        try {
          decode(Uint8Array.of(decode === decodeEvent ? type : 0x80 + (type % 13), ...rest))
        } catch (error) {
          assert.ok(error instanceof Fault, String(error))
        }
      }
    }),
    { seed: 3, numRuns: 500 },
  )
})

test('a stream is cut into frames wherever it was broken', () => {
  const a = encodeRequest(1, { op: 'keepalive', peer: 7 })
  const b = encodeRequest(2, { op: 'allow', peer: 7, prefixes: ['10.0.0.0/8' as Cidr] })
  const destination = { ip: parseIp('fe80::1') as Ip, port: 9, scope: 3 }
  const c = encodeRequest(3, { op: 'send', source: undefined, destination, tos: 0x88, message: Uint8Array.of(1) })
  const stream = Uint8Array.from([...a, ...b, ...c])
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 40 })), (sizes) => {
      const splitter = new FrameSplitter()
      const got: number[] = []
      let at = 0
      for (const size of [...sizes, stream.length]) {
        for (const body of splitter.push(stream.subarray(at, at + size))) got.push(decodeRequest(body).id)
        at = Math.min(at + size, stream.length)
      }
      assert.deepEqual(got, [1, 2, 3])
    }),
    { seed: 4 },
  )
  const oversize = new Uint8Array(4)
  new DataView(oversize.buffer).setUint32(0, MAX_FRAME + 1, true)
  assert.throws(() => [...new FrameSplitter().push(oversize)], Fault)
  assert.throws(() => [...new FrameSplitter().push(new Uint8Array(4))], Fault)
})
