import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ReplayWindow } from './replay-window.ts'

test('a counter is accepted once, and only within the window', () => {
  fc.assert(
    fc.property(fc.array(fc.bigInt({ min: 0n, max: 100n })), (counters) => {
      const window = new ReplayWindow(16)
      const seen = new Set<bigint>()
      let next = 0n
      for (const counter of counters) {
        const expected = !seen.has(counter) && counter + 16n >= next
        assert.equal(window.accept(counter), expected)
        seen.add(counter)
        if (counter >= next) next = counter + 1n
      }
      assert.equal(window.next, next)
    }),
    { seed: 5 },
  )
})
