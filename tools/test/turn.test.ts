import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Turn } from './turn.ts'

test('what runs side by side prints one after the other', () => {
  let printed = ''
  const [first, second, third] = Turn.inOrder(3, { write: (text: string) => (printed += text) })
  assert.ok(first !== undefined && second !== undefined && third !== undefined)
  third.write('3')
  third.end()
  first.write('1')
  second.write('2')
  assert.equal(printed, '1')
  first.end()
  assert.equal(printed, '12')
  second.write('2')
  second.end()
  assert.equal(printed, '1223')
})
