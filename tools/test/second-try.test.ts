import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Count } from './count.ts'
import { withSecondTry } from './second-try.ts'

const GOOD: Count = { passed: 2, failed: 0, skipped: 1 }
const BAD: Count = { passed: 1, failed: 1, skipped: 1 }

/** Runs give the counts that each key has left. */
function runs(of: Record<string, Count[]>) {
  const asked: string[][] = []
  const run = async (keys: readonly string[]) => {
    asked.push([...keys])
    return new Map(keys.map((key) => [key, of[key]?.shift() ?? GOOD]))
  }
  return { asked, run }
}

test('what failed runs once more, alone, and is named when it passes', async () => {
  const { asked, run } = runs({ b: [BAD, GOOD] })
  const { counts, second } = await withSecondTry(['a', 'b', 'c'], run)
  assert.deepEqual(asked, [['a', 'b', 'c'], ['b']])
  assert.deepEqual([...counts.values()], [GOOD, GOOD, GOOD])
  assert.deepEqual(second, ['b'])
})

test('what fails twice has failed', async () => {
  const { run } = runs({ a: [BAD, BAD], b: [BAD, GOOD] })
  const { counts, second } = await withSecondTry(['a', 'b'], run)
  assert.deepEqual(counts.get('a'), BAD)
  assert.deepEqual(second, ['b'])
})

test('many that fail are no accident', async () => {
  const { asked, run } = runs({ a: [BAD], b: [BAD], c: [BAD], d: [BAD] })
  const { second } = await withSecondTry(['a', 'b', 'c', 'd'], run)
  assert.deepEqual([asked.length, second], [1, []])
})
