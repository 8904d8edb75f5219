import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pooledEntropy } from './entropy.ts'

test('bytes of any length, of their own, and none twice', () => {
  const random = pooledEntropy()
  const seen = new Set<string>()
  for (let i = 0; i < 2000; i++) {
    const bytes = random(16 + (i % 17))
    assert.equal(bytes.length, 16 + (i % 17))
    assert.equal(bytes.buffer.byteLength, bytes.length, 'no view of the pool')
    seen.add(bytes.subarray(0, 16).toHex())
  }
  assert.equal(seen.size, 2000)
  assert.equal(random(0).length, 0)
  assert.equal(random(10_000).length, 10_000)
  assert.ok(random(4096).some((byte) => byte !== 0))
})
