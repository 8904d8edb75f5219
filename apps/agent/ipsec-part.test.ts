import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Fault } from '#core/fault/fault.ts'
import { parseKeyTexts } from '#core/ipsec/key-text.ts'
import type { IpsecWords } from '#core/ipsec/words.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import { FakeDatapath } from '#test/kit/fake-datapath.ts'
import { NO_KEYS } from '#test/kit/key-reading.ts'
import { bootIdOf, peerOf } from '#test/kit/snapshots.ts'
import { IpsecPart, type IpsecPartDeps } from './ipsec-part.ts'

const parsed = parseKeyTexts('3+ rfc4106(gcm(aes)) 5b0b1c7f2a9d4e6688aa31c07d95f2e4c6183b2d 128', ipsecHash)
assert.ok(parsed.ok)
const keys = parsed.value
const WORDS: IpsecWords = { receives: keys, sends: keys }
const SETTINGS = { name: 'p', mtu: 1400, mark: 0xe00, udpPort: 4500 }

function part(options: Partial<Pick<IpsecPartDeps, 'state' | 'ipsecKeys'>> = {}) {
  const asked: { readonly ms: number }[] = []
  const made = new IpsecPart({
    datapath: new FakeDatapath(),
    state: { value: {}, change: async () => undefined } as never,
    timers: {
      after: (ms) => {
        asked.push({ ms })
        return () => undefined
      },
      random: () => 0,
    },
    ipsecKeys: () => ({ ...NO_KEYS, current: keys, kept: keys, operator: true }),
    now: () => 0,
    wake: () => undefined,
    ...options,
  })
  return { made, asked }
}

const peers = [peerOf(2, 3, { bootId: bootIdOf(2), ipsec: WORDS })]
const FULL = 'Fault: no space left'
const NOTHING = { bootId: undefined, words: undefined }

test('a node greets nobody before its own words were written, however long that takes, and some time later', async () => {
  const { made, asked } = part()
  // the first look only learns that nothing is installed
  await made.decide(peers, () => SETTINGS, NOTHING)
  await made.inForce(peers)
  const sendBy = async () => {
    const decided = await made.decide(peers, () => SETTINGS, NOTHING)
    assert.ok(typeof decided !== 'string')
    await made.inForce(peers)
    assert.deepEqual(
      decided.receive.map(({ id }) => id),
      [3],
      'receiving waits for nothing',
    )
    return Object.keys(decided.sendBy)
  }
  assert.deepEqual(await sendBy(), [])
  // as long as a peer that is met now is given to know this node
  await new Promise((resolve) => setTimeout(resolve, 350))
  assert.deepEqual(await sendBy(), [])
  assert.deepEqual(asked, [], 'nothing wakes it but the words')

  const words = made.words
  assert.ok(words !== undefined)
  const began = performance.now()
  made.tell(words)
  assert.equal(made.told(words), true, 'it looks again at once')
  const first = await sendBy()
  // a machine that held this up has given them that time
  if (performance.now() - began < 900) {
    assert.deepEqual(first, [])
    assert.ok(asked.length > 0, 'and once more when the others had time to read them')
  }
  while ((await sendBy()).length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
  assert.deepEqual(await sendBy(), ['node-2'])
})

test('a key that was let go while the disk is full is not taken again, and written down when there is room', {
  timeout: 100_000,
}, async () => {
  const parse = (id: number, digit: string) => {
    const all = parseKeyTexts(`${id} rfc4106(gcm(aes)) 5b0b1c7f2a9d4e6688aa31c07d95f2e4c6183b2${digit} 128`, ipsecHash)
    assert.ok(all.ok)
    return all.value
  }
  const [first, second] = [parse(3, 'd'), parse(4, 'e')]
  let current = first
  let isFull = true
  let value: { retiredKeys?: readonly string[] } = {}
  const { made } = part({
    ipsecKeys: () => ({ ...NO_KEYS, current }),
    state: {
      get value() {
        return value
      },
      change: async (fields: typeof value) => {
        if (isFull) throw new Fault('store.full', 'no space left')
        value = { ...value, ...fields }
      },
    } as never,
  })
  /** Alone in its cluster: what it says is enough. */
  const turn = async () => {
    const decided = await made.decide([], () => SETTINGS, NOTHING)
    assert.ok(typeof decided !== 'string')
    const failure = await made.inForce([]).then(
      () => '',
      (error: unknown) => String(error),
    )
    const { words } = made
    if (words !== undefined) {
      made.tell(words)
      made.told(words)
    }
    return { failure, receives: (words?.receives ?? []).map(({ id }) => id).join() }
  }
  const until = async (receives: string) => {
    for (;;) {
      const now = await turn()
      if (now.receives === receives) return now
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  await until('3')
  current = second
  await until('4')
  current = first
  for (let i = 0; i < 5; i++) assert.deepEqual(await turn(), { failure: FULL, receives: '4' }, 'it was used before')
  isFull = false
  await turn()
  assert.equal((await turn()).failure, '')
  assert.deepEqual(value.retiredKeys, [first[0]?.fingerprint])
})
