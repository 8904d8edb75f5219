import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fromHex, toHex } from '#core/bytes/text.ts'
import { unwrap } from '#core/fault/result.ts'
import { type Ip, requireIp } from '#core/ip/address.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import type { IpsecKey, KeyFingerprint } from './key.ts'
import { parseKeyTexts } from './key-text.ts'
import { derivePairKeys } from './pair-key.ts'
import { deriveEngineKeys, engineFingerprint } from './userspace.ts'

const A = { ip: '10.0.0.1' as Ip, bootId: '11111111-1111-4111-8111-111111111111' }
const B = { ip: '10.0.1.1' as Ip, bootId: '22222222-2222-4222-8222-222222222222' }

interface Vector {
  readonly key: string
  readonly source: string
  readonly destination: string
  readonly sourceBootId: string
  readonly destinationBootId: string
  readonly derived: string
}

const file = new URL('../../test/vectors/ipsec-pair-keys.json', import.meta.url)
const { vectors } = JSON.parse(readFileSync(file, 'utf8')) as { vectors: readonly Vector[] }

function keyOf(encryption: string, authentication = ''): IpsecKey {
  return {
    id: 3,
    fingerprint: '0000000000000000' as KeyFingerprint,
    encryptionAlgorithm: 'any',
    encryptionKey: fromHex(encryption) as Uint8Array,
    authenticationAlgorithm: authentication === '' ? undefined : 'any',
    authenticationKey: fromHex(authentication) as Uint8Array,
    icvBytes: 16,
  }
}

test("keys of a pair are derived by Cilium's rule", () => {
  assert.ok(vectors.length >= 10)
  for (const vector of vectors) {
    const source = { ip: requireIp(vector.source, 'source'), bootId: vector.sourceBootId }
    const destination = { ip: requireIp(vector.destination, 'destination'), bootId: vector.destinationBootId }
    const derived = unwrap(derivePairKeys(keyOf(vector.key), source, destination, ipsecHash))
    assert.equal(toHex(derived.encryptionKey), vector.derived, JSON.stringify(vector))
    assert.equal(derived.authenticationKey.length, 0)
  }
})

test('each field of a key is derived for itself', () => {
  const [short, long] = [vectors[0]!, vectors[3]!]
  const both = unwrap(derivePairKeys(keyOf(short.key, long.key), A, B, ipsecHash))
  assert.equal(toHex(both.encryptionKey), short.derived)
  assert.equal(toHex(both.authenticationKey), long.derived)
})

test('the two directions have two keys', () => {
  const key = keyOf(vectors[0]!.key)
  const there = unwrap(derivePairKeys(key, A, B, ipsecHash))
  const back = unwrap(derivePairKeys(key, B, A, ipsecHash))
  assert.notDeepEqual(there, back)
})

test('no keys are derived without boot ids, or for a pair of one node', () => {
  const key = keyOf(vectors[0]!.key)
  for (const bootId of ['', 'x', `${B.bootId} `, `${B.bootId}0`, B.bootId.replaceAll('-', ''), 'g'.repeat(36)]) {
    const derived = derivePairKeys(key, A, { ...B, bootId }, ipsecHash)
    assert.equal(derived.ok ? '' : derived.error.code, 'ipsec.pair.boot-id', bootId)
  }
  for (const ip of [A.ip, requireIp('::ffff:10.0.0.1', 'ip')]) {
    const derived = derivePairKeys(key, A, { ...B, ip }, ipsecHash)
    assert.equal(derived.ok ? '' : derived.error.code, 'ipsec.pair.same')
  }
})

test('the engine gets the derived keys by the names it has', () => {
  const text = `3+ rfc4106(gcm(aes)) ${vectors[0]!.key} 128`
  const [key] = unwrap(parseKeyTexts(text, ipsecHash))
  const keys = unwrap(deriveEngineKeys(key!, A, B, ipsecHash))
  assert.equal(keys.algorithm, 'aes-gcm')
  assert.equal(keys.icv, 16)
  assert.equal(toHex(keys.encryption), vectors[0]!.derived)
  const frames = new URL('../../test/vectors/ipsec-frames.json', import.meta.url)
  const { frames: list } = JSON.parse(readFileSync(frames, 'utf8')) as {
    frames: readonly { name: string; fields: { fingerprint: string } }[]
  }
  const removal = list.find(({ name }) => name === 'REMOVE_ASSOCIATION')
  assert.equal(engineFingerprint(keys, ipsecHash), removal?.fields.fingerprint)
})
