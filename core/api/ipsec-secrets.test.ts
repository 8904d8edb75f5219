import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { KeyFingerprint } from '#core/ipsec/key.ts'
import { formatForced, formatKeptKeys, parseForced, parseKeptKeys, secretText } from './ipsec-secrets.ts'

const fingerprint = '0123456789abcdef' as KeyFingerprint
const base64 = (text: string) => Buffer.from(text, 'latin1').toString('base64')

test('what is kept comes back, oldest first', () => {
  const kept = {
    texts: ['3 rfc4106(gcm(aes)) aa 128', '4 rfc4106(gcm(aes)) bb 128'],
    retired: [{ id: 2, fingerprint }],
  }
  assert.deepEqual(parseKeptKeys(formatKeptKeys(kept)), kept)
  assert.deepEqual(parseKeptKeys(formatKeptKeys({ texts: [' 3 a b 128\n'], retired: [] })), {
    texts: ['3 a b 128'],
    retired: [],
  })
})

test('a Secret that somebody else wrote is not taken for ours', () => {
  const good = formatKeptKeys({ texts: ['x'], retired: [] })
  for (const data of [undefined, {}, { keys: good['keys'] as string }, { ...good, retired: base64('4:zz\n') }]) {
    assert.equal(parseKeptKeys(data), undefined)
  }
})

test('a field that is missing, no base64 or no UTF-8 has no text', () => {
  assert.equal(secretText({ keys: base64('3 a') }, 'keys'), '3 a')
  for (const data of [undefined, {}, { keys: '%' }, { keys: base64('\xff\xfe') }]) {
    assert.equal(secretText(data, 'keys'), undefined)
  }
  assert.equal(secretText({}, 'toString'), undefined)
})

test('who is not waited for is said for one key only', () => {
  const newest = { id: 4, fingerprint }
  const text = formatForced(newest, ['a', 'b'])
  assert.deepEqual(parseForced(text, newest), ['a', 'b'])
  assert.deepEqual(parseForced(text, { id: 5, fingerprint }), [])
  for (const nothing of [undefined, '', 'a', `${text} c`]) assert.deepEqual(parseForced(nothing, newest), [])
})
