import assert from 'node:assert/strict'
import { test } from 'node:test'
import { REKEY_TIMEOUT } from './constants.ts'
import { type PublicKey, publicKeyOf } from './key.ts'
import { Strangers } from './strangers.ts'

const key = (number: number): PublicKey => publicKeyOf(new Uint8Array(32).fill(number))

test('who has called is remembered once, and for a short time', () => {
  const strangers = new Strangers()
  strangers.note(0, key(1))
  strangers.note(1000, key(2))
  assert.ok(strangers.take(REKEY_TIMEOUT, key(1)))
  assert.ok(!strangers.take(REKEY_TIMEOUT, key(1)))
  assert.ok(!strangers.take(REKEY_TIMEOUT, key(3)))
  assert.ok(!strangers.take(1001 + REKEY_TIMEOUT, key(2)))
})

test('of many the last ones are remembered', () => {
  const strangers = new Strangers()
  for (let i = 0; i < 200; i++) strangers.note(i, key(i))
  assert.equal(strangers.size, 64)
  assert.ok(!strangers.take(200, key(135)))
  assert.ok(strangers.take(200, key(136)))
  strangers.note(10_000, key(7))
  assert.equal(strangers.size, 1)
})
