import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CiliumNode } from '#core/api/cilium-node.ts'
import { Fault } from '#core/fault/fault.ts'
import { parseKeyTexts } from '#core/ipsec/key-text.ts'
import type { IpsecWords } from '#core/ipsec/words.ts'
import { READING_ANNOTATION } from '#core/transition/greeting.ts'
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

function part(options: Partial<Pick<IpsecPartDeps, 'state' | 'ipsecKeys' | 'datapath'>> = {}) {
  const asked: { readonly ms: number }[] = []
  const made = new IpsecPart({
    nodeName: 'node-1',
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
const RECEIVED = [{ node: 'node-2', bootId: bootIdOf(2) }]
const NODES = { ciliumNodes: [], version: undefined }
const FULL = 'Fault: no space left'
const NOTHING = { bootId: undefined, words: undefined }

test('a node greets nobody before its own words were written, however long that takes, and some time later', async () => {
  const { made, asked } = part()
  // the first look only learns that nothing is installed
  await made.decide(peers, () => SETTINGS, NOTHING, NODES)
  await made.inForce(peers, RECEIVED)
  const sendBy = async () => {
    const decided = await made.decide(peers, () => SETTINGS, NOTHING, NODES)
    assert.ok(typeof decided !== 'string')
    await made.inForce(peers, RECEIVED)
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
  assert.equal(made.told(words, undefined, undefined), true, 'it looks again at once')
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
    const decided = await made.decide([], () => SETTINGS, NOTHING, NODES)
    assert.ok(typeof decided !== 'string')
    const failure = await made.inForce([], []).then(
      () => '',
      (error: unknown) => String(error),
    )
    const { words } = made
    if (words !== undefined) {
      made.tell(words)
      made.told(words, undefined, undefined)
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

function told(name: string, version: number, read?: number): CiliumNode {
  const annotations = read === undefined ? {} : { [READING_ANNOTATION]: String(read) }
  return { metadata: { name, resourceVersion: String(version), annotations }, spec: {} }
}

test('a node that knows of this one is sent to at once, another one when it was heard', async () => {
  const datapath = new FakeDatapath()
  const { made } = part({ datapath })
  let seen = { version: '40', ciliumNodes: [told('node-2', 30, 29)] }
  const sendBy = async () => {
    const decided = await made.decide(peers, () => SETTINGS, NOTHING, seen)
    assert.ok(typeof decided !== 'string')
    await made.inForce(peers, RECEIVED)
    return Object.keys(decided.sendBy)
  }
  await sendBy()
  await sendBy()
  const { words, reading } = made
  assert.ok(words !== undefined)
  assert.deepEqual(reading, { now: { version: 40n, without: [] }, isNews: false })
  made.tell(words)
  made.told(words, reading.now, '41')
  assert.deepEqual(await sendBy(), [], 'it said up to where it had read before this node was there')
  seen = { version: '42', ciliumNodes: [told('node-2', 42, 41)] }
  assert.deepEqual(await sendBy(), ['node-2'])

  const other = part({ datapath })
  const heard = async (names: readonly string[]) => {
    const state = await FakeDatapath.prototype.observeIpsec.call(datapath, 'p')
    assert.ok(state !== undefined)
    const heardOf = names.map((node) => ({ node, destination: undefined, heard: true, rxBytes: 0n, txBytes: 0n }))
    datapath.observeIpsec = async () => ({ ...state, peers: heardOf })
    const decided = await other.made.decide(peers, () => SETTINGS, NOTHING, {
      ...seen,
      ciliumNodes: [told('node-2', 30, 29)],
    })
    assert.ok(typeof decided !== 'string')
    await other.made.inForce(peers, RECEIVED)
    return Object.keys(decided.sendBy)
  }
  await heard([])
  other.made.tell(words)
  other.made.told(words, { version: 40n, without: [] }, '41')
  assert.deepEqual(await heard(['node-3']), [])
  assert.deepEqual(await heard(['node-2']), ['node-2'])
})

test('what a node has no association for is said of it, and of two that began at once the first says its reading again', async () => {
  const { made } = part()
  const at = async (version: string, nodes: readonly CiliumNode[], received: typeof RECEIVED) => {
    await made.decide(peers, () => SETTINGS, NOTHING, { version, ciliumNodes: nodes })
    await made.inForce(peers, received)
    return made.reading
  }
  await at('40', [told('node-2', 40, 20)], [])
  await at('40', [told('node-2', 40, 20)], [])
  const { words } = made
  assert.ok(words !== undefined)
  made.tell(words)
  made.told(words, { version: 39n, without: [] }, '41')
  assert.deepEqual(await at('41', [told('node-2', 40, 20)], []), {
    now: { version: 41n, without: ['node-2'] },
    isNews: false,
  })
  const old = [{ node: 'node-2', bootId: bootIdOf(3) }]
  assert.deepEqual((await at('41', [told('node-2', 40, 20)], old)).now?.without, ['node-2'])
  const news = { now: { version: 41n, without: [] }, isNews: true }
  assert.deepEqual(await at('41', [told('node-2', 40, 20)], RECEIVED), news)
  made.told(words, news.now, '42')
  assert.equal((await at('42', [told('node-2', 40, 20)], RECEIVED)).isNews, false)
})
