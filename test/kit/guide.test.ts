import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GuideReader, readGuide } from './guide.ts'

const guides = new URL('../vectors/guides/', import.meta.url).pathname

test('every command of the guide is found, with its continuation lines', () => {
  const commands = readGuide(`${guides}wireguard.txt`)
  assert.equal(commands.length, 16)
  assert.equal(commands[1]?.text.split('\n').length, 3)
  assert.ok(commands.every(({ text }) => !/[.:]$/.test(text)))
})

test('so are those that make, show and rotate a key; shown output is no command', () => {
  const ipsec = readGuide(`${guides}ipsec.txt`).map(({ text }) => text.split(/[ =]/)[0])
  assert.deepEqual(ipsec.slice(0, 5), ['PSK', 'echo', 'kubectl', 'SECRET', 'echo'])
  assert.deepEqual(ipsec.slice(-5), ['patch', 'kubectl', 'read', 'echo', 'echo'])
  const transparent = readGuide(`${guides}transparent-encryption.txt`).map(({ text }) => text.split(' ')[0])
  assert.deepEqual(transparent, ['kubectl', 'kubectl', 'cilium', 'cilium-dbg'])
})

test('a scenario that is out of step with the guide is told where', () => {
  const reader = new GuideReader([{ text: 'cilium install', line: 7 }])
  assert.throws(() => reader.next(/^kubectl/), /line 7 of the guide is not/)
  assert.ok(reader.done)
  assert.throws(() => reader.next(/x/), /ends before/)
})
