import assert from 'node:assert/strict'
import { test } from 'node:test'
import { wireguardPair } from '#test/kit/wireguard-pair.ts'
import { formatHealth, HEALTH_OPERATION, parseHealth } from './health.ts'
import { parseControlRequest } from './parse.ts'

const SECOND = 1000

test('a peer that died is named, with the time; one that answers is not', () => {
  const { wire, alice, bob } = wireguardPair()
  const health = () => parseHealth(formatHealth(alice.device, { dropNoPeer: 3 }, wire.clock.now))
  alice.send(bob, 'x')
  wire.clock.advance(30 * SECOND)
  assert.equal(health()?.unanswered.size, 0)
  const usual = wire.fate
  wire.fate = () => []
  alice.send(bob, 'into the dark')
  const since = wire.clock.now.unix
  // over the end of the session, of the attempts and of the keys
  for (let minute = 0; minute < 12; minute++) {
    wire.clock.advance(60 * SECOND)
    assert.ok(Math.abs((health()?.unanswered.get(bob.publicKey) ?? 0) - since) < SECOND, `minute ${minute}`)
  }
  assert.ok((alice.peer(bob).lastHandshake ?? 0) < since)
  wire.fate = usual
  bob.send(alice, 'here I am')
  wire.clock.advance(SECOND)
  assert.deepEqual(alice.texts(), ['here I am'])
  assert.equal(health()?.unanswered.size, 0)
  assert.equal(health()?.counters['dropNoPeer'], 3)
  assert.ok((health()?.counters['handshakes.taken'] ?? 0) > 0)
})

test('an idle pair has nothing unanswered', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'x')
  wire.clock.advance(3600 * SECOND)
  assert.equal(parseHealth(formatHealth(alice.device, {}, wire.clock.now))?.unanswered.size, 0)
})

test('the question is one line; an older keeper’s refusal is no health', () => {
  assert.deepEqual(parseControlRequest(`${HEALTH_OPERATION}\n`), { op: 'health' })
  assert.throws(() => parseControlRequest(`${HEALTH_OPERATION}\nx=1\n`), /nothing may follow/)
  assert.equal(parseHealth('errno=-22\n\n'), undefined)
  assert.throws(() => parseHealth('counter_x=1\n'), /without errno/)
})
