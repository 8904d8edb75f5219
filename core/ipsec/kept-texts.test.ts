import assert from 'node:assert/strict'
import { test } from 'node:test'
import { unwrap } from '#core/fault/result.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import { formatKeptTexts, parseKeptTexts } from './kept-texts.ts'
import type { KeyFingerprint } from './key.ts'
import { parseKeyTexts } from './key-text.ts'

const TEXT = `15 rfc4106(gcm(aes)) 8f1c2b3a4d5e6f708192a3b4c5d6e7f809ba1c2d 96
1+ hmac(sha256) 51b3a7c9e02f4d688a1c0b7e93d5f642 cbc(aes) 1f0e8d2c7b6a59483726f5e4d3c2b1a0`

test('kept texts are read as they were written', () => {
  const keys = unwrap(parseKeyTexts(TEXT, ipsecHash))
  const retired = ['00112233445566aa', 'ffeeddccbbaa9988'] as KeyFingerprint[]
  for (const kept of [
    { keys, retired, forced: ['kind-worker', 'kind-worker2'] },
    { keys: keys.slice(1), retired: [], forced: [] },
    { keys: [], retired: [], forced: [] },
  ]) {
    assert.deepEqual(unwrap(parseKeptTexts(formatKeptTexts(kept), ipsecHash)), kept)
  }
  assert.deepEqual(unwrap(parseKeptTexts({}, ipsecHash)), { keys: [], retired: [], forced: [] })
})

test('what cannot be read is a fault without the key', () => {
  for (const data of [{ keys: '3 rfc4106(gcm(aes)) 8f1c2b3a4d5e6f708192 128' }, { retired: '8f1c2b3a4d5e6f708192' }]) {
    const parsed = parseKeptTexts(data, ipsecHash)
    assert.ok(!parsed.ok)
    assert.doesNotMatch(JSON.stringify(parsed.error) + parsed.error.message, /8f1c2b/)
  }
})
