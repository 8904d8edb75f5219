import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GuideReader, readGuide } from './guide.ts'

const file = new URL('../vectors/guides/wireguard.txt', import.meta.url).pathname

test('every command of the guide is found, with its continuation lines', () => {
  const commands = readGuide(file)
  assert.equal(commands.length, 16)
  assert.equal(commands[1]?.text.split('\n').length, 3)
  assert.ok(commands.every(({ text }) => !/[.:]$/.test(text)))
})

test('a scenario that is out of step with the guide is told where', () => {
  const reader = new GuideReader([{ text: 'cilium install', line: 7 }])
  assert.throws(() => reader.next(/^kubectl/), /line 7 of the guide is not/)
  assert.ok(reader.done)
  assert.throws(() => reader.next(/x/), /ends before/)
})
