import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CiliumNode } from '#core/api/cilium-node.ts'
import type { KeyFingerprint, KeyRef } from '#core/ipsec/key.ts'
import { formatIpsecWords, IPSEC_WORDS_ANNOTATION } from '#core/ipsec/words.ts'
import { rotationProgress } from './rotation.ts'

const key = (id: number): KeyRef => ({ id, fingerprint: id.toString(16).repeat(16) as KeyFingerprint })
const [K3, K4] = [key(3), key(4)]

function progress(kept: readonly KeyRef[], nodes: Readonly<Record<string, readonly [KeyRef[], KeyRef[]]>>) {
  const names = Object.keys(nodes)
  return rotationProgress({
    newest: K4,
    kept,
    nodes: names.map((name) => ({ name, ready: name !== 'lost' })),
    ciliumNodes: Object.entries(nodes).map(([name, [receives, sends]]): CiliumNode => {
      return {
        metadata: { name, annotations: { [IPSEC_WORDS_ANNOTATION]: formatIpsecWords({ receives, sends }) } },
        spec: {},
      }
    }),
    forced: [],
  })
}

test('who is waited for, step by step, until the new key is the only one', () => {
  const both = [K3, K4]
  for (const [kept, a, b, text] of [
    [both, [both, [K3]], [[K3], [K3]], '1 of 2 nodes receive key 4, waiting for b'],
    [both, [both, [K4]], [both, both], '1 of 2 nodes send by key 4 alone, waiting for b'],
    [both, [[K4], [K4]], [both, [K4]], '1 of 2 nodes receive key 4 alone, waiting for b'],
    [both, [[K4], [K4]], [[K4], [K4]], 'waiting for the operator to keep key 4 alone'],
  ] as const) {
    const state = progress(kept, { a: [[...a[0]], [...a[1]]], b: [[...b[0]], [...b[1]]] })
    assert.deepEqual([state.done, state.text], [false, text])
  }
  const end = progress([K4], { a: [[K4], [K4]], b: [[K4], [K4]] })
  assert.deepEqual([end.done, end.text], [true, 'key 4 is the only one on 2 nodes'])
})

test('a node that is alone sends by no key, and its rotation ends', () => {
  assert.match(progress([K3, K4], { a: [[K3, K4], []] }).text, /^0 of 1 nodes receive key 4 alone/)
  assert.equal(progress([K4], { a: [[K4], []] }).done, true)
  // one that has no key at all has not taken it
  assert.match(progress([K4], { a: [[K4], [K4]], b: [[], []] }).text, /^1 of 2 nodes receive key 4, waiting for b/)
})
