import assert from 'node:assert/strict'
import { test } from 'node:test'
import { beside } from './columns.ts'

test('lines stand beside each other, cut and filled up', () => {
  assert.deepEqual(beside(['abcdefgh', 'x'], ['1'], 15), ['abcde… │ 1', 'x      │ '])
})
