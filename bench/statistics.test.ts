import assert from 'node:assert/strict'
import { test } from 'node:test'
import { digits, figure, percentile, show } from './statistics.ts'

test('the middle of odd and even counts, and the spread', () => {
  assert.deepEqual(figure([3, 1, 2]), { median: 2, smallest: 1, largest: 3, rounds: 3 })
  assert.equal(figure([4, 1, 2, 3])?.median, 2.5)
  assert.equal(figure([]), undefined)
  assert.deepEqual(figure([Number.NaN, 5]), { median: 5, smallest: 5, largest: 5, rounds: 1 })
})

test('percentiles lie between neighbours', () => {
  assert.equal(percentile([0, 10], 0.99), 9.9)
  assert.equal(percentile([1, 2, 3, 4, 5], 1), 5)
  assert.equal(percentile([1, 2, 3, 4, 5], 0), 1)
})

test('three digits that count', () => {
  assert.deepEqual([5.234, 52.34, 523.4, 0].map(digits), ['5.23', '52.3', '523', '0'])
  assert.equal(show(figure([1, 2, 3])), '2.00 ±50')
  assert.equal(show(figure([1.5])), '1.50')
  assert.equal(show(undefined), '-')
})
