import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  formatReading,
  Greeting,
  LEAST_PATIENCE,
  PATIENCE,
  parseReading,
  parseVersion,
  type Stranger,
} from './greeting.ts'

const reading = (version: number, ...without: string[]) => ({ version: BigInt(version), without })
const peer = (name: string, version: number, more: Partial<Stranger> = {}): Stranger => ({
  name,
  bootId: `boot-${name}`,
  version: BigInt(version),
  reading: reading(version - 1),
  heard: false,
  ...more,
})

function told(name: string, version: number, read = version - 1): Greeting {
  const greeting = new Greeting(name)
  greeting.told(0, BigInt(version), reading(read))
  return greeting
}

test('of one that was there and one that has read of it, the first goes first, and the other when it has heard it', () => {
  const [old, young] = [told('z', 10), told('a', 20)]
  assert.deepEqual([...old.look([peer('a', 20)], undefined, 5).known], [['a', 'has read']])
  const waits = young.look([peer('z', 10)], undefined, 5)
  assert.deepEqual([waits.known.size, waits.sayAgain, waits.wakeAt], [0, false, 5 + PATIENCE])
  assert.deepEqual([...young.look([peer('z', 10, { heard: true })], undefined, 6).known], [['z', 'heard']])
  assert.deepEqual([...young.look([peer('z', 10)], undefined, 7).known], [['z', 'heard']], 'once for all')
  // under another boot id it is a stranger
  assert.equal(young.look([peer('z', 30, { bootId: 'new', reading: reading(15) })], undefined, 8).known.size, 0)
})

test('of two that began at once the smaller name says again how far it has read, and the other goes first', () => {
  const [a, b] = [told('a', 20, 10), told('b', 21, 11)]
  const [ofA, ofB] = [peer('a', 20, { reading: reading(10) }), peer('b', 21, { reading: reading(11) })]
  const [atA, atB] = [a.look([ofB], reading(21), 1), b.look([ofA], reading(21), 1)]
  assert.deepEqual([atA.known.size, atA.sayAgain, atB.known.size, atB.sayAgain], [0, true, 0, false])
  assert.equal(a.look([ofB], reading(21, 'b'), 1).sayAgain, false, 'as long as it would be no news')
  a.told(2, 22n, reading(21))
  assert.deepEqual([a.look([ofB], reading(22), 2).sayAgain, a.look([ofB], undefined, 2).known.size], [false, 0])
  assert.deepEqual([...b.look([peer('a', 22, { reading: reading(21) })], undefined, 3).known], [['a', 'has read']])
})

test('a node that is named as not received from waits', () => {
  const old = told('z', 10)
  assert.equal(old.look([peer('a', 20, { reading: reading(19, 'z') })], undefined, 1).known.size, 0)
  assert.equal(old.look([peer('a', 20, { reading: reading(22) })], undefined, 1).known.size, 1)
})

test('where nothing can be compared it goes after a time, but never before its own words are there', () => {
  const greeting = new Greeting('a')
  const stranger = peer('b', 5, { reading: undefined })
  assert.deepEqual([greeting.look([stranger], undefined, 0).wakeAt, greeting.isWaiting([stranger])], [undefined, false])
  assert.equal(greeting.look([stranger], undefined, 100_000).known.size, 0)
  greeting.told(100_000, 7n, reading(6))
  assert.equal(greeting.look([stranger], undefined, 100_000).wakeAt, 100_000 + LEAST_PATIENCE)
  assert.equal(greeting.isWaiting([stranger]), true)
  assert.deepEqual([...greeting.look([stranger], undefined, 100_000 + LEAST_PATIENCE).known.values()], ['waited'])
  assert.equal(greeting.isWaiting([stranger]), false)
})

test('whom an agent finds when it starts is no stranger', () => {
  const greeting = new Greeting('a')
  greeting.adopt(50n, reading(40))
  assert.deepEqual([...greeting.look([peer('b', 45)], undefined, 0).known.values()], ['here before'])
  assert.deepEqual(
    greeting.look([peer('b', 45), peer('c', 60, { reading: reading(59) })], undefined, 1).known.get('c'),
    'has read',
  )
})

test('a reading is read as it was written, and what is none is not', () => {
  for (const one of [reading(1), reading(12345678901234, 'kind-worker', 'kind-worker2')]) {
    assert.deepEqual(parseReading(formatReading(one)), one)
  }
  for (const text of [undefined, '', '0', '-1', '1 2', '1 without ', 'abc', '01']) {
    assert.equal(parseReading(text), undefined)
    assert.equal(parseVersion(text), undefined)
  }
})
