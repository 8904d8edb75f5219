import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { fromHex, toHex } from '#core/bytes/text.ts'
import { Fault } from '#core/fault/fault.ts'
import type { Ip } from '#core/ip/address.ts'
import { encodeKeys } from './association.ts'
import { decodeEvent, encodeEvent } from './event.ts'
import { decodeRequest, encodeRequest } from './request.ts'

interface Frame {
  readonly name: string
  readonly direction: string
  readonly type: number
  readonly hex: string
  readonly fields: Readonly<Record<string, unknown>>
}

const file = new URL('../../test/vectors/ipsec-frames.json', import.meta.url)
const { frames } = JSON.parse(readFileSync(file, 'utf8')) as { frames: readonly Frame[] }
const bodyOf = (frame: Frame) => (fromHex(frame.hex) as Uint8Array).subarray(4)
const fromEngine = frames.filter((frame) => frame.direction === 'engine to agent')
const toEngine = frames.filter((frame) => frame.direction === 'agent to engine')

/** The vector's fields in the shape that our decoders give. */
function expected(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => {
      if (name === 'direction') return [name, ['', 'in', 'out'][value as number]]
      if (name === 'encapsulation') return [name, ['none', 'udp'][value as number]]
      if (name === 'encryption' || name === 'authentication') return [name, fromHex(value as string)]
      if (name === 'sequence' || name === 'packets' || name === 'bytes') return [name, BigInt(value as string)]
      return [name, name === 'keys' ? expected(value as Record<string, unknown>) : value]
    }),
  )
}

test('requests of IPsec are encoded and decoded as the vectors say', () => {
  assert.deepEqual([...new Set(toEngine.map(({ type }) => type))], [0x90, 0x91, 0x92])
  for (const frame of toEngine) {
    const { id, request } = decodeRequest(bodyOf(frame))
    const { op, ...fields } = request
    const name = frame.name.toLowerCase().replace(/_(.)/g, (_, c: string) => c.toUpperCase())
    assert.equal(op, name)
    assert.deepEqual({ request: id, ...fields }, expected(frame.fields), frame.name)
    assert.equal(toHex(encodeRequest(id, request)), frame.hex, frame.name)
  }
})

test('events of IPsec are decoded and encoded as the vectors say', () => {
  assert.deepEqual([...new Set(fromEngine.map(({ type }) => type))], [0x06, 0x15])
  for (const frame of fromEngine) {
    const event = decodeEvent(bodyOf(frame))!
    assert.deepEqual(event, { type: frame.name.toLowerCase(), ...expected(frame.fields) })
    assert.equal(toHex(encodeEvent(event)), frame.hex, frame.name)
  }
})

test('a frame of IPsec that is cut, too long or changed is a fault, never a wrong value', () => {
  for (const frame of frames) {
    const decode = frame.direction === 'agent to engine' ? decodeRequest : decodeEvent
    const body = bodyOf(frame)
    for (let length = 0; length < body.length; length++) {
      assert.throws(() => decode(body.subarray(0, length)), Fault, `${frame.name} cut at ${length}`)
    }
    assert.throws(() => decode(Uint8Array.of(...body, 0)), Fault)
  }
  const random = fc.tuple(fc.constantFrom(...frames), fc.nat(), fc.integer({ min: 0, max: 255 }))
  fc.assert(
    fc.property(random, ([frame, at, value]) => {
      const body = bodyOf(frame).slice()
      body[1 + (at % (body.length - 1))] = value
      try {
        if (frame.direction === 'agent to engine') {
          const { id, request } = decodeRequest(body)
          assert.equal(toHex(encodeRequest(id, request).subarray(4)), toHex(body))
        } else {
          assert.equal(toHex(encodeEvent(decodeEvent(body)!).subarray(4)), toHex(body))
        }
      } catch (error) {
        // what decodes says the same again, except that an IPv4 address leaves 12 bytes without meaning
        assert.ok(error instanceof Fault || body[outerOffset(frame)] === 4, String(error))
      }
    }),
    { seed: 15, numRuns: 2000 },
  )
})

test('what has no place in a frame is a mistake of the program', () => {
  const keys = { algorithm: 'aes-gcm', icv: 16, authentication: new Uint8Array(0) } as const
  assert.throws(() => encodeKeys({ ...keys, encryption: new Uint8Array(256) }), TypeError)
  const outer = { source: '10.0.0.1' as Ip, destination: 'fd00::1' as Ip }
  const request = {
    op: 'setReceiving',
    peer: 1,
    spi: 3,
    outer,
    keys: { ...keys, encryption: new Uint8Array(20) },
  } as const
  assert.throws(() => encodeRequest(1, request), /two families/)
  const removal = { op: 'removeAssociation', direction: 'in', peer: 1, spi: 3 } as const
  assert.throws(() => encodeRequest(1, { ...removal, fingerprint: '00ff' }), TypeError)
})

function outerOffset({ type }: Frame): number {
  return type === 0x90 ? 16 : type === 0x91 ? 13 : type === 0x06 ? 15 : 0
}
