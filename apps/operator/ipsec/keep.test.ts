import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatForced } from '#core/api/ipsec-secrets.ts'
import type { KeyRef } from '#core/ipsec/key.ts'
import { parseKeyTexts } from '#core/ipsec/key-text.ts'
import type { RotationPeer } from '#core/transition/rotation.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import { type KeepInput, keep } from './keep.ts'

const K3 = '3 rfc4106(gcm(aes)) 8f3a91c2d47e05b6617f2ec9a0d35b84e91c7a26 128'
const K4 = '4+ rfc4106(gcm(aes)) 5d20e7b94c1fa863920be4d71f6c358ad4097be1 128'
const K5 = '5 rfc4106(gcm(aes)) c07b36e1582fd94a0e6bb7935dac41f2783e1509 128'

function refs(...texts: readonly string[]): KeyRef[] {
  return texts.map((text) => {
    const parsed = parseKeyTexts(text, ipsecHash)
    assert(parsed.ok)
    const { id, fingerprint } = parsed.value[0] as KeyRef
    return { id, fingerprint }
  })
}

function node(name: string, receives: readonly string[], sends: readonly string[] = receives.slice(-1)): RotationPeer {
  return { name, words: { receives: refs(...receives), sends: refs(...sends) } }
}

const start: KeepInput = {
  userText: undefined,
  kept: { texts: [], retired: [] },
  wanted: true,
  forced: undefined,
  nodes: [],
  userspace: true,
}

test('the first key is kept as it was written', () => {
  const { next, added } = keep({ ...start, userText: `${K4}\n` })
  assert.deepEqual(next, { texts: [K4], retired: [] })
  assert.deepEqual(added, refs(K4))
})

test('a rotation: both are kept until the last node has let the old one go', () => {
  const kept = { texts: [K3], retired: [] }
  const began = keep({ ...start, kept, userText: K4, nodes: [node('a', [K3]), node('b', [K3])] })
  assert.deepEqual(began.next, { texts: [K3, K4], retired: [] })
  const both = { ...start, kept: { texts: [K3, K4], retired: [] }, userText: K4 }
  const some = keep({ ...both, nodes: [node('a', [K3, K4]), node('b', [K3])] })
  assert.deepEqual([some.next, some.waitingFor, some.receivedByAll], [undefined, ['a', 'b'], undefined])
  const all = keep({ ...both, nodes: [node('a', [K4]), node('b', [K3, K4], [K3, K4])] })
  assert.deepEqual([all.next, all.waitingFor, all.receivedByAll], [undefined, ['b'], refs(K4)[0]])
  const over = keep({ ...both, nodes: [node('a', [K4]), node('b', [K4])] })
  assert.deepEqual(over.next, { texts: [K4], retired: refs(K3) })
  assert.deepEqual(over.retired, refs(K3))
})

test('a third key waits, and nothing is lost of what is kept', () => {
  const { next, problems } = keep({
    ...start,
    kept: { texts: [K3, K4], retired: [] },
    userText: K5,
    nodes: [node('a', [K3, K4])],
  })
  assert.equal(next, undefined)
  assert.deepEqual(
    problems.map(({ code }) => code),
    ['ipsec.rotation.third-key'],
  )
})

test('what is no key changes nothing, and the reason has nothing of it', () => {
  const kept = { texts: [K3], retired: [] }
  for (const userText of ['', 'nonsense', '4 rfc4106(gcm(aes)) 00112233445566778899 128', `4 ${'00'.repeat(20)} 128`]) {
    const { next, fault } = keep({ ...start, kept, userText })
    assert.equal(next, undefined)
    assert(fault !== undefined, userText)
    assert.doesNotMatch(`${fault.message} ${fault.remedy}`, /00112233|0000/)
  }
  assert.equal(keep({ ...start, kept }).next, undefined)
})

test('a key that was used before is refused', () => {
  const kept = { texts: [K4], retired: refs(K3) }
  const { next, problems } = keep({ ...start, kept, userText: K3.replace(/^3/, '6') })
  assert.equal(next, undefined)
  assert.equal(problems[0]?.code, 'ipsec.rotation.used-before')
  assert.doesNotMatch(JSON.stringify(problems), /8f3a91c2/)
})

test('a node that is given up is not waited for, in this rotation', () => {
  const kept = { texts: [K3, K4], retired: [] }
  const input = { ...start, kept, userText: K4, nodes: [node('a', [K4]), node('lost', [K3])] }
  assert.deepEqual(keep(input).waitingFor, ['lost'])
  const forced = keep({ ...input, forced: formatForced(refs(K4)[0] as KeyRef, ['lost']) })
  assert.deepEqual([forced.next, forced.forcedIsOver], [{ texts: [K4], retired: refs(K3) }, true])
  const other = keep({ ...input, forced: formatForced(refs(K3)[0] as KeyRef, ['lost']) })
  assert.deepEqual([other.next, other.forcedIsOver], [undefined, false])
})

test('an algorithm that the datapath does not have is refused before any node takes it', () => {
  const sha1 = `4 hmac(sha1) 5d20e7b94c1fa863920be4d71f6c358ad4097be1 cbc(aes) c07b36e1582fd94a0e6bb7935dac41f2`
  const kept = { texts: [K3], retired: [] }
  assert.equal(keep({ ...start, kept, userText: sha1 }).problems[0]?.code, 'ipsec.rotation.unusable')
  assert.notEqual(keep({ ...start, kept, userText: sha1, userspace: false }).next, undefined)
})

test('a key that is printed in a guide is taken, and warned of', () => {
  const printed = '3 rfc4106(gcm(aes)) da630c6acdbef2757ab7f5215b8b1811420e3f61 128'
  const { next, warnings } = keep({ ...start, userText: printed })
  assert.deepEqual(next?.texts, [printed])
  assert.match(warnings.join(), /public guide/)
})

test('while IPsec is off a key that the user has no more is forgotten, once no node says anything of keys', () => {
  const off = {
    ...start,
    wanted: false,
    kept: { texts: [K3], retired: refs(K5) },
    nodes: [{ name: 'a', words: undefined }],
  }
  for (const userText of [undefined, '', 'nonsense', K4, K3.replace(/ 8f/, ' 7f')]) {
    const { next, forgotten, retired, problems, fault } = keep({ ...off, userText })
    assert.deepEqual([next, forgotten, retired], [{ texts: [], retired: refs(K5) }, refs(K3), []])
    assert.deepEqual([problems, fault], [[], undefined])
  }
  // the user has it, or somebody may still receive by it: also one whose words are none
  assert.equal(keep({ ...off, userText: `${K3}\n` }).next, undefined)
  for (const receives of [[K3], []]) assert.equal(keep({ ...off, nodes: [node('a', receives)] }).next, undefined)
  // it may begin anew
  const { next } = keep({ ...start, kept: { texts: [], retired: refs(K5) }, userText: K3 })
  assert.deepEqual(next?.texts, [K3])
})

test('while IPsec is off no key is taken, and a rotation that was under way ends', () => {
  assert.equal(keep({ ...start, wanted: false, userText: K3 }).next, undefined)
  const input = { ...start, wanted: false, kept: { texts: [K3, K4], retired: [] }, userText: K4 }
  assert.equal(keep({ ...input, nodes: [node('a', [K3, K4])] }).next, undefined)
  for (const each of [node('a', [K4]), { name: 'a', words: undefined }]) {
    const { next, retired, forgotten } = keep({ ...input, nodes: [each] })
    assert.deepEqual([next, retired, forgotten], [{ texts: [K4], retired: refs(K3) }, refs(K3), []])
  }
})

test('a key that can be guessed is not taken, and one that is in use already stays', () => {
  const guessable = '3 rfc4106(gcm(aes)) 112233445566778899aabbccddeeff0011223344 128'
  const { next, fault } = keep({ ...start, userText: guessable })
  assert.deepEqual([next, fault?.code], [undefined, 'ipsec.key.weak'])
  const used = keep({ ...start, userText: guessable, kept: { texts: [guessable], retired: [] } })
  assert.deepEqual([used.next, used.fault, used.keys], [undefined, undefined, refs(guessable)])
  const off = keep({ ...start, wanted: false, userText: guessable, kept: { texts: [guessable], retired: [] } })
  assert.equal(off.next, undefined)
  const rotated = keep({
    ...start,
    userText: K4,
    kept: { texts: [guessable], retired: [] },
    nodes: [node('a', [guessable])],
  })
  assert.deepEqual(rotated.next?.texts, [guessable, K4])
})
