import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Writer } from '#core/bytes/writer.ts'
import { unwrap } from '#core/fault/result.ts'
import { ipFromValue } from '#core/ip/address.ts'
import { cidrOf } from '#core/ip/cidr.ts'
import { asMessage, loadVectors, messagesOf } from '#test/kernel/vectors.ts'
import { BLOCK, key, OUT, POLICY_SIX } from '#test/kernel/xfrm-samples.ts'
import { AttributeWriter } from './attribute.ts'
import { type NetlinkMessage } from './message.ts'
import { IPPROTO_ESP, XFRM_MSG_NEWSA } from './xfrm.ts'
import { decodeStateCount, decodeXfrmEvent } from './xfrm-event.ts'
import { decodePolicy, newPolicy, type XfrmTemplate } from './xfrm-policy.ts'
import { parseXfrmStat } from './xfrm-stat.ts'
import { decodeState, newState, XFRM_STATE_ESN, type XfrmState } from './xfrm-state.ts'

const vectors = loadVectors('netlink-xfrm')
/** struct xfrm_usersa_info. */
const STATE_BYTES = 224

const u32 = fc.nat({ max: 0xffffffff })
const family = fc.constantFrom(4 as const, 6 as const)
const ipOf = (of: 4 | 6) =>
  fc.bigInt({ min: 0n, max: (1n << (of === 4 ? 32n : 128n)) - 1n }).map((value) => ipFromValue(of, value))
const cidrOfFamily = (of: 4 | 6) =>
  fc.tuple(ipOf(of), fc.integer({ min: 1, max: of === 4 ? 32 : 128 })).map(([ip, length]) => cidrOf(ip, length))
const port = fc.integer({ min: 1, max: 65535 })
const mark = fc.record({ value: u32, mask: u32 }, { noNullPrototype: true })
const some = <T extends object>(parts: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<Partial<T>> =>
  fc.record(parts, { requiredKeys: [], noNullPrototype: true }) as fc.Arbitrary<Partial<T>>
const selector = family.chain((of) =>
  fc
    .tuple(
      fc.record({ source: cidrOfFamily(of), destination: cidrOfFamily(of) }, { noNullPrototype: true }),
      some({
        protocol: fc.integer({ min: 1, max: 255 }),
        sourcePort: port,
        destinationPort: port,
        index: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
      }),
    )
    .map(([ends, more]) => ({ ...ends, ...more })),
)
const keyBytes = fc.uint8Array({ maxLength: 64 })
const name = fc.constantFrom('cbc(aes)', 'rfc4106(gcm(aes))', 'rfc7539esp(chacha20,poly1305)', 'x'.repeat(63))
const integrity = fc.record({ name, key: keyBytes, icvBytes: fc.nat({ max: 64 }) }, { noNullPrototype: true })
const encryption = fc.record({ name, key: keyBytes }, { noNullPrototype: true })
const crypto = fc.oneof(
  integrity.map((aead) => ({ aead })),
  encryption.map((cipher) => ({ encryption: cipher })),
  fc.tuple(encryption, integrity).map(([cipher, authentication]) => ({ encryption: cipher, authentication })),
)
const limit = fc.bigInt({ min: 1n, max: (1n << 64n) - 2n })
const limits = some({ softBytes: limit, hardBytes: limit, softPackets: limit, hardAddSeconds: limit }).filter(
  (value) => Object.keys(value).length > 0,
)
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })
const esn = fc.tuple(u64, u64, fc.integer({ min: 0, max: 4096 }), u32).map(([sent, received, window, word]) => {
  const words = Math.ceil(window / 32)
  const bitmap = words > 0 && word > 0 ? { bitmap: Array.from({ length: words }, (_, i) => (word + i) >>> 0) } : {}
  return { flags: XFRM_STATE_ESN, replay: { sent, received, window, ...bitmap } }
})
const classic = fc.tuple(u32, u32, fc.integer({ min: 0, max: 32 })).map(([sent, received, window]) => ({
  flags: 0,
  replay: { sent: BigInt(sent), received: BigInt(received), window },
}))

test('what is written is read again: states', () => {
  const states = family.chain((of) =>
    fc
      .tuple(
        fc.record({ source: ipOf(of), destination: ipOf(of), spi: u32, reqid: u32, crypto }, { noNullPrototype: true }),
        fc.constantFrom('tunnel' as const, 'transport' as const, 'beet' as const),
        fc.oneof(esn, classic),
        some({
          selector,
          mark,
          outputMark: mark,
          limits,
          encapsulation: fc.record({ type: port, sourcePort: port, destinationPort: port }, { noNullPrototype: true }),
          offload: fc.record({ index: fc.nat(), flags: fc.nat({ max: 7 }) }, { noNullPrototype: true }),
          interfaceId: u32,
          extraFlags: u32,
          direction: fc.constantFrom('in' as const, 'out' as const),
        }),
      )
      .map(([ends, mode, counters, more]) => ({ ...ends, mode, protocol: IPPROTO_ESP, ...counters, ...more })),
  )
  fc.assert(
    fc.property(states, (state) => {
      const seen = unwrap(decodeState(asMessage(newState(state as XfrmState))))
      const counted = { bytes: 0n, packets: 0n, added: 0, firstUsed: 0 }
      assert.deepEqual(seen, { ...state, ...counted, beforeWindow: 0, replayed: 0, integrityFailed: 0 })
    }),
    { seed: 8, numRuns: 500 },
  )
})

test('what is written is read again: policies', () => {
  const templates = fc.array(
    family.chain((of) =>
      fc
        .tuple(
          fc.record({ source: ipOf(of), destination: ipOf(of), reqid: u32, spi: u32 }, { noNullPrototype: true }),
          fc.boolean(),
        )
        .map(
          ([ends, optional]): XfrmTemplate => ({
            ...ends,
            protocol: IPPROTO_ESP,
            mode: 'tunnel',
            ...(optional ? { optional } : {}),
          }),
        ),
    ),
    { maxLength: 6 },
  )
  const policies = fc
    .tuple(
      fc.record(
        {
          selector,
          templates,
          priority: u32,
          direction: fc.constantFrom('in' as const, 'out' as const, 'fwd' as const),
          action: fc.constantFrom('allow' as const, 'block' as const),
        },
        { noNullPrototype: true },
      ),
      some({ mark, limits, interfaceId: u32, flags: fc.integer({ min: 1, max: 255 }) }),
    )
    .map(([policy, more]) => ({ ...policy, ...more }))
  fc.assert(
    fc.property(policies, (policy) => {
      const seen = unwrap(decodePolicy(asMessage(newPolicy(policy))))
      assert.deepEqual(seen, { ...policy, index: 0, bytes: 0n, packets: 0n, added: 0, firstUsed: 0 })
    }),
    { seed: 9, numRuns: 500 },
  )
})

test('what lies is named with its offset, what is not known is skipped', () => {
  const decode = (fill: (to: AttributeWriter) => void, change?: (body: Uint8Array) => void) => {
    const to = new AttributeWriter(new Writer().put(newState({ ...OUT }).body.subarray(0, STATE_BYTES)))
    fill(to)
    const body = to.finish()
    change?.(body)
    const result = decodeState(asMessage({ type: XFRM_MSG_NEWSA, flags: 0, body }))
    return result.ok ? 'fine' : result.error.message
  }
  assert.equal(
    decode((to) => to.bytes(35, key(1, 4)).nested(4711, (inner) => inner.u8(1, 1))),
    'fine',
  )
  const algorithm = (bits: number, bytes: number) =>
    new Writer().put(key(0x61, 3)).zeros(61).u32le(bits).u32le(128).zeros(bytes).finish()
  assert.equal(
    decode((to) => to.bytes(18, algorithm(160, 20))),
    'fine',
  )
  assert.match(
    decode((to) => to.bytes(18, algorithm(160, 19))),
    /key of 20 bytes, has 19 \(offset 224\)/,
  )
  assert.match(
    decode((to) => to.bytes(18, algorithm(160, 21))),
    /key of 20 bytes, has 21 \(offset 224\)/,
  )
  assert.match(
    decode((to) => to.bytes(18, key(0x61, 72))),
    /name has no end \(offset 224\)/,
  )
  assert.match(
    decode((to) => to.bytes(18, key(0, 30))),
    /needs 64 bytes at offset|needs 68 bytes at offset/,
  )
  assert.match(
    decode((to) => to.bytes(21, key(0, 7))),
    /attribute 21 has 7 bytes, not 8 \(offset 224\)/,
  )
  assert.match(
    decode((to) => to.bytes(4, key(0, 23))),
    /attribute 4 has 23 bytes, not 24 \(offset 224\)/,
  )
  assert.match(
    decode((to) => to.bytes(10, key(0, 8))),
    /attribute 10 has 8 bytes, not 12 \(offset 224\)/,
  )
  assert.match(
    decode((to) => to.bytes(23, key(1, 28))),
    /replay window .* \(offset 224\)/,
  )
  assert.match(
    decode((to) => to.writer.u16le(200).u16le(18)),
    /attribute 18 says 196 bytes, has 0 \(offset 224\)/,
  )
  // the mode, and a prefix length of the selector
  assert.match(
    decode(
      () => undefined,
      (body) => body.fill(99, 214, 215),
    ),
    /XFRM mode 99 \(offset 214\)/,
  )
  const six = newPolicy(POLICY_SIX).body.slice()
  six[42] = 129
  assert.match(failure(decodePolicy(asMessage({ type: 19, flags: 0, body: six }))), /prefix length 129 \(offset 0\)/)
  const templates = new AttributeWriter(new Writer().put(newPolicy(BLOCK).body)).bytes(5, key(0, 63)).finish()
  assert.match(
    failure(decodePolicy(asMessage({ type: 19, flags: 0, body: templates }))),
    /templates in 63 bytes \(offset 168\)/,
  )
})

function failure(result: { readonly ok: boolean; readonly error?: Error }): string {
  return result.error?.message ?? 'fine'
}

test('every cut and every change of a recorded message decodes or gives a Fault', () => {
  const all = vectors.records
    .flatMap(({ requests, answers }) => [...requests, ...answers])
    .concat(vectors.events ?? [])
    .flatMap(messagesOf)
    .filter(({ type }) => type >= 0x10 && type <= 0x25)
  const decode = (message: NetlinkMessage) => {
    for (const result of [decodeState, decodePolicy, decodeXfrmEvent, decodeStateCount].map((codec) =>
      codec(message),
    )) {
      if (result.ok) continue
      assert.ok(['netlink.malformed', 'bytes.short'].includes(result.error.code))
      assert.match(result.error.message, /offset \d+/)
    }
  }
  for (const message of all) {
    for (let end = 0; end < message.body.length; end += 1 + (end >> 5)) {
      decode({ ...message, body: message.body.subarray(0, end) })
    }
  }
  fc.assert(
    fc.property(
      fc.constantFrom(...all),
      fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 6 }),
      fc.integer({ min: 0x10, max: 0x25 }),
      (message, bytes, type) => {
        const body = message.body.slice()
        for (const [at, value] of bytes) body[at % Math.max(1, body.length)] = value
        decode({ ...message, body })
        decode({ ...message, body, type })
      },
    ),
    { seed: 10, numRuns: 2000 },
  )
})

test('xfrm_stat is read, by whatever names the kernel has', () => {
  const text = 'XfrmInError                     \t0\nXfrmInNoStates                  \t2\nXfrmOutStateDirError\t17\n'
  assert.deepEqual(unwrap(parseXfrmStat(text)), { XfrmInError: 0, XfrmInNoStates: 2, XfrmOutStateDirError: 17 })
  assert.deepEqual(unwrap(parseXfrmStat('')), {})
  assert.match(failure(parseXfrmStat('XfrmInError 0\nnonsense')), /line 2 is no "name number"/)
  assert.match(failure(parseXfrmStat('XfrmInError -1')), /line 1/)
})
