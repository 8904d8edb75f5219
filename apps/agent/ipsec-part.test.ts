import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseKeyTexts } from '#core/ipsec/key-text.ts'
import type { IpsecWords } from '#core/ipsec/words.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import { FakeDatapath } from '#test/kit/fake-datapath.ts'
import { bootIdOf, peerOf } from '#test/kit/snapshots.ts'
import { IpsecPart } from './ipsec-part.ts'

const parsed = parseKeyTexts('3+ rfc4106(gcm(aes)) 5b0b1c7f2a9d4e6688aa31c07d95f2e4c6183b2d 128', ipsecHash)
assert.ok(parsed.ok)
const keys = parsed.value
const WORDS: IpsecWords = { receives: keys, sends: keys }
const SETTINGS = { name: 'p', mtu: 1400, mark: 0xe00, udpPort: 4500 }

function part() {
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
    ipsecKeys: () => ({
      current: keys,
      kept: keys,
      retired: [],
      operator: true,
      forced: undefined,
      problem: undefined,
      complete: true,
    }),
    now: () => 0,
    wake: () => undefined,
  })
  return { made, asked }
}

const peers = [peerOf(2, 3, { bootId: bootIdOf(2), ipsec: WORDS })]
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
  made.tell(words)
  assert.equal(made.told(words), true, 'it looks again at once')
  assert.deepEqual(await sendBy(), [])
  assert.ok(asked.length > 0, 'and once more when the others had time to read them')
  while ((await sendBy()).length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
  assert.deepEqual(await sendBy(), ['node-2'])
})
