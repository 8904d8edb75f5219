import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { after, before, suite, test } from 'node:test'
import { DEVICE_MTU, EspEnds, missingForEnds, until } from './esp-ends.ts'
import { type Outside, type PairOfKeys, randomKeys, type Suite } from './esp-shape.ts'

/**
 * Our engine against XFRM of the guest's kernel (tools/kernel), an ESP that we did not write: every algorithm that the engine
 * has, as protocol 50 and in UDP, with IPv4 and IPv6 outside and inside. Numbers begin shortly before 2^32 at both ends, so
 * that every run goes over it. test/interop has other implementations, packet by packet.
 *
 * Of our dummy packets (RFC 4303 2.6) Linux counts each as XfrmInStateProtoError (6.12, net/xfrm/xfrm_input.c: whatever the
 * transform refuses), but for the short ones in UDP over IPv6, which it drops uncounted: net/ipv6/xfrm6_input.c asks for 40
 * bytes of ESP, where it means none.
 */

interface Shape extends Outside {
  readonly stream: 4 | 6
}

/** Bytes; of an AEAD with 4 bytes of salt. */
const SUITES: readonly Suite[] = [
  ...[20, 28, 36].flatMap((encryption) =>
    [8, 12, 16].map((icv): Suite => ({ algorithm: 'aes-gcm', encryption, icv, authentication: 0 })),
  ),
  { algorithm: 'chacha20-poly1305', encryption: 36, icv: 16, authentication: 0 },
  ...[16, 24, 32].flatMap((encryption): Suite[] => [
    { algorithm: 'aes-cbc-hmac-sha256', encryption, icv: 12, authentication: 32 },
    { algorithm: 'aes-cbc-hmac-sha256', encryption, icv: 16, authentication: 32 },
    { algorithm: 'aes-cbc-hmac-sha384', encryption, icv: 24, authentication: 48 },
    { algorithm: 'aes-cbc-hmac-sha512', encryption, icv: 32, authentication: 64 },
  ]),
]
/** `stream`: the family that TCP has inside; pings have both. */
const OUTSIDES: readonly Shape[] = [
  { encapsulation: 'none', family: 4, stream: 4 },
  { encapsulation: 'udp', family: 4, stream: 6 },
  { encapsulation: 'none', family: 6, stream: 6 },
  { encapsulation: 'udp', family: 6, stream: 4 },
]
const ROLLOVER = 2n ** 32n
/** Before the last ping of the first round, at either end. */
const NEAR = ROLLOVER - 5n
/** Of the engine, by the kernel's names and its own; but for what its device sends to everybody by itself. */
const isDrop = (name: string) => /^(Xfrm|drop)/.test(name) && name !== 'XfrmOutNoStates'

const skip = missingForEnds() ?? false
let ends: EspEnds

suite('the engine and the kernel, each the other end', { skip, concurrency: 1 }, () => {
  before(async () => {
    ends = await EspEnds.open()
  })
  after(async () => await ends?.close())

  for (const [index, one] of SUITES.entries()) {
    test(nameOf(one), async () => {
      for (const [at, outside] of OUTSIDES.entries()) {
        const keys = { out: randomKeys(one), in: randomKeys(one) }
        const said = sayOutside(outside)
        await talk(outside, keys, said)
        // what is refused takes longer: in one shape for each algorithm, another one each time
        if (at === index % OUTSIDES.length) {
          await repeat(keys, said)
          await mistake(one, said)
        }
      }
    })
  }

  for (const outside of OUTSIDES) {
    test(`a network that is too narrow, ${sayOutside(outside)}`, async () => await narrow(outside))
  }
})

/** Ping and TCP, both ways, over 2^32. Both ends then agree on every number, and nothing was dropped. */
async function talk(outside: Shape, keys: PairOfKeys, said: string): Promise<void> {
  await ends.connect(outside, keys, { out: NEAR, in: NEAR })
  const before = await counts()
  for (const from of ['theirs', 'ours'] as const) {
    const answered = await Promise.all([ends.ping(from, 4, 3), ends.ping(from, 6, 3)])
    assert.deepEqual(answered, [3, 3], `pings from ${from}, ${said}`)
  }
  const bytes = randomBytes(100_000)
  const echoed = await ends.echo(outside.stream, bytes)
  assert.equal(digest(echoed), digest(bytes), `TCP by IPv${outside.stream}, ${said}: ${echoed.length} bytes came back`)
  await until('both ends say the same numbers', async () => {
    const [ours, theirs] = [await ends.numbers(), ends.stateNumbers()]
    return ours.out > ROLLOVER && ours.in > ROLLOVER && ours.out === theirs.out && ours.in === theirs.in
  })
  // the answer to the first packet that the engine heard
  const short = outside.encapsulation === 'udp' && outside.family === 6 && dummyBytes(keys) < 40
  assert.deepEqual(await since(before), { ours: {}, theirs: short ? {} : { XfrmInStateProtoError: 1 } }, said)
}

/** Numbers that were there before are refused at both ends; behind the highest they are taken again. */
async function repeat(keys: PairOfKeys, said: string): Promise<void> {
  const before = await counts()
  const { out, in: back } = ends.stateNumbers()
  ends.replaceState('in', keys.in, back - 3n)
  assert.equal(await ends.unanswered('theirs', 2), 0)
  await until('our end has dropped both', async () => ((await since(before)).ours['XfrmInStateSeqError'] ?? 0) >= 2)
  ends.skipTo(keys.out, out - 3n)
  assert.equal(await ends.unanswered('ours', 2), 0)
  await until('their end has dropped both', async () => ((await since(before)).theirs['XfrmInStateSeqError'] ?? 0) >= 2)
  assert.deepEqual(await since(before), { ours: { XfrmInStateSeqError: 2 }, theirs: { XfrmInStateSeqError: 2 } }, said)
  ends.skipTo(keys.out, out)
  ends.replaceState('in', keys.in, back)
  assert.equal(await ends.ping('theirs', 4, 2), 2, said)
}

/** Another key than the other end's, first at theirs, then what they receive by. */
async function mistake(suite: Suite, said: string): Promise<void> {
  const before = await counts()
  const { out, in: back } = ends.stateNumbers()
  ends.replaceState('in', randomKeys(suite), back)
  assert.equal(await ends.unanswered('theirs', 2), 0)
  await until('our end has dropped both', async () => ((await since(before)).ours['XfrmInStateProtoError'] ?? 0) >= 2)
  ends.replaceState('out', randomKeys(suite), out)
  assert.equal(await ends.unanswered('ours', 2), 0)
  await until(
    'their end has dropped both',
    async () => ((await since(before)).theirs['XfrmInStateProtoError'] ?? 0) >= 2,
  )
  const dropped = { XfrmInStateProtoError: 2 }
  assert.deepEqual(await since(before), { ours: dropped, theirs: dropped }, said)
}

/** The network takes less than the device of ours was told. */
async function narrow(outside: Outside): Promise<void> {
  const suite: Suite = { algorithm: 'aes-gcm', encryption: 20, icv: 16, authentication: 0 }
  await ends.connect(outside, { out: randomKeys(suite), in: randomKeys(suite) }, { out: 0n, in: 0n })
  const dummies = async () => (await ends.counters())['keepalivesSent'] ?? 0
  const first = await dummies()
  assert.equal(await ends.ping('theirs', 4, 1), 1)
  await until('the engine has answered by a dummy packet', async () => (await dummies()) > first)
  assert.equal(await ends.ping('ours', 4, 1), 1)
  ends.setMtu('network', 1400)
  try {
    const before = await counts()
    const whole = (bytes: number) => ['-M', 'do', '-s', `${bytes - 28}`]
    // theirs: the kernel tells the sender what fits, and that does
    const told = await ends.pingText('theirs', 4, '-c', '1', '-W', '1', ...whole(DEVICE_MTU))
    const fits = Number(/mtu[ =]+(\d+)/.exec(told)?.[1] ?? assert.fail(told))
    assert.ok(fits < DEVICE_MTU && fits > 1250, told)
    assert.equal(await ends.ping('theirs', 4, 2, ...whole(fits)), 2, told)
    // ours: the kernel refuses the engine's packet, which is counted
    assert.equal(await ends.unanswered('ours', 1, ...whole(DEVICE_MTU)), 0)
    assert.deepEqual(await since(before), { ours: { XfrmOutError: 1 }, theirs: {} })
    assert.equal(await ends.ping('ours', 4, 2, ...whole(fits)), 2)
    // what the agent does about it: then the sender is told here as well
    ends.setMtu('device', fits)
    const refused = await ends.pingText('ours', 4, '-c', '1', '-W', '1', ...whole(fits + 1))
    assert.match(refused, new RegExp(`mtu[ =]+${fits}\\b`))
    const bytes = randomBytes(100_000)
    assert.equal(digest(await ends.echo(4, bytes)), digest(bytes))
    assert.deepEqual(await since(before), { ours: { XfrmOutError: 1 }, theirs: {} })
  } finally {
    ends.setMtu('network', 1500)
    ends.setMtu('device', DEVICE_MTU)
  }
}

type Counts = Readonly<Record<string, number>>

async function counts(): Promise<{ ours: Counts; theirs: Counts }> {
  return { ours: await ends.counters(), theirs: ends.drops() }
}

/** What each end has dropped since then, by name. */
async function since(before: { ours: Counts; theirs: Counts }): Promise<{ ours: Counts; theirs: Counts }> {
  const now = await counts()
  const more = (then: Counts, all: Counts) =>
    Object.fromEntries(
      Object.entries(all).flatMap(([name, count]) => {
        const difference = count - (then[name] ?? 0)
        return isDrop(name) && difference !== 0 ? [[name, difference] as const] : []
      }),
    )
  return { ours: more(before.ours, now.ours), theirs: more(before.theirs, now.theirs) }
}

/** The whole ESP packet: header, IV, padding up to a block with the trailer, ICV. */
function dummyBytes({ out: { algorithm, icv } }: PairOfKeys): number {
  const [block, iv] = algorithm.startsWith('aes-cbc') ? [16, 16] : [4, 8]
  return 8 + iv + block + icv
}

function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function nameOf({ algorithm, encryption, icv, authentication }: Suite): string {
  return `${algorithm} of ${(encryption - (authentication === 0 ? 4 : 0)) * 8} bits, ICV of ${icv * 8}`
}

function sayOutside({ encapsulation, family }: Outside): string {
  return `${encapsulation === 'udp' ? 'in UDP' : 'protocol 50'}, IPv${family} outside`
}
