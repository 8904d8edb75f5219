import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { type Node, wireguardPair } from '#test/kit/wireguard-pair.ts'
import type { DeviceChange } from './change.ts'

const SECOND = 1000
const HOUR = 3600 * SECOND
/** A peer that has just been heard is not called; then one handshake. */
const CALLED_BACK = 22 * SECOND

function configuration(node: Node, other: Node): DeviceChange {
  const allowedIps = [{ prefix: requireCidr(`${other.inner}/32`, ''), remove: false }]
  const peer = { publicKey: other.publicKey, remove: false, updateOnly: false, endpoint: other.endpoint, allowedIps }
  return { privateKey: node.privateKey, replacePeers: true, peers: [{ ...peer, replaceAllowedIps: true }] }
}

function boot(node: Node, other: Node): void {
  node.reboot()
  node.know(other)
}

test('a node that boots with a clock an hour late is back in seconds: its peer calls it', () => {
  for (const quiet of [0, 3, 60, 400]) {
    const { wire, alice, bob } = wireguardPair()
    alice.send(bob, 'before')
    wire.clock.advance(quiet * SECOND + SECOND)
    alice.clockError = -HOUR
    boot(alice, bob)
    alice.send(bob, 'after')
    wire.clock.advance(CALLED_BACK)
    assert.deepEqual(bob.texts(), ['before', 'after'], `${quiet} s later`)
    assert.ok((bob.device.verdicts.get('replayed') ?? 0) > 0, 'it was refused at first')
    alice.send(bob, 'and on')
    wire.clock.advance(SECOND)
    assert.equal(bob.received.length, 3)
  }
})

test('a clock that was an hour early and is right again keeps nobody out', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.clockError = HOUR
  alice.send(bob, 'early')
  wire.clock.advance(30 * SECOND)
  alice.clockError = 0
  boot(alice, bob)
  alice.send(bob, 'right')
  wire.clock.advance(CALLED_BACK)
  assert.deepEqual(bob.texts(), ['early', 'right'])
})

test('who plays old initiations again makes the peers meet now and then, and changes nothing else', () => {
  const { wire, alice, bob } = wireguardPair()
  for (let minute = 0; minute < 10; minute++) {
    wire.clock.after(minute * 60 * SECOND, () => alice.send(bob, `${minute}`))
  }
  wire.clock.advance(600 * SECOND)
  const recorded = wire.seen.filter(({ message, to }) => message?.type === 'initiation' && to.ip === bob.endpoint.ip)
  assert.ok(recorded.length >= 3)
  const [before, attacker] = [wire.count('initiation'), { ip: requireIp('203.0.113.66', ''), port: 6, scope: 0 }]
  for (let i = 0; i < 600; i++) {
    wire.inject(recorded[i % (recorded.length - 1)]?.bytes ?? new Uint8Array(), attacker, bob.endpoint)
    wire.clock.advance(SECOND)
  }
  const made = wire.count('initiation') - before
  assert.ok(made > 0 && made <= 600 / 15, `${made} handshakes in 600 s`)
  assert.equal(bob.peer(alice).endpoint?.ip, alice.endpoint.ip)
  assert.ok(
    wire.seen.every(({ to }) => to.ip !== attacker.ip),
    'no answer to who played them',
  )
  alice.send(bob, 'still here')
  wire.clock.advance(SECOND)
  assert.equal(bob.texts().at(-1), 'still here')
})

type Event =
  | { readonly kind: 'send' | 'boot' | 'kill' | 'save'; readonly who: number; readonly seconds: number }
  | { readonly kind: 'clock'; readonly who: number; readonly seconds: number; readonly hours: number }

const events: fc.Arbitrary<Event> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('send' as const, 'send' as const, 'boot' as const, 'kill' as const, 'save' as const),
    who: fc.nat(1),
    seconds: fc.nat(200),
  }),
  fc.record({
    kind: fc.constant('clock' as const),
    who: fc.nat(1),
    seconds: fc.nat(200),
    hours: fc.integer({ min: -48, max: 48 }),
  }),
)

test('boots, killed keepers, files that could not be written, clocks that jump: no number twice, nobody kept out', () => {
  fc.assert(
    fc.property(fc.array(events, { minLength: 1, maxLength: 25 }), (list) => {
      const { wire, alice, bob } = wireguardPair()
      const nodes = [alice, bob]
      // what reached the file: a keeper that is killed comes back with that, a node that boots with nothing
      const saved = nodes.map((node) => node.labels())
      for (const event of list) {
        const [node, other] = [nodes[event.who] as Node, nodes[1 - event.who] as Node]
        switch (event.kind) {
          case 'send':
            node.send(other, 'x')
            break
          case 'boot':
            boot(node, other)
            saved[event.who] = new Map()
            break
          case 'kill':
            node.restartKeeper(10, configuration(node, other), saved[event.who])
            wire.clock.advance(20)
            break
          case 'save':
            saved[event.who] = node.labels()
            break
          case 'clock':
            node.clockError = event.hours * HOUR
        }
        wire.clock.advance(event.seconds * SECOND)
      }
      for (const node of nodes) {
        const other = node === alice ? bob : alice
        node.send(other, 'end')
        // sessions that the other side has lost are found out by silence, and replaced
        wire.clock.advance(CALLED_BACK)
        node.send(other, 'end')
        wire.clock.advance(CALLED_BACK)
        assert.ok(other.texts().includes('end'), `${node === alice ? 'alice' : 'bob'} is kept out`)
      }
      assert.deepEqual(wire.reused, [])
      assert.ok(wire.sealed.size > 0)
    }),
    { seed: 4, numRuns: 60 },
  )
})
