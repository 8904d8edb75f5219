import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { EngineRequest } from '#core/engine/request.ts'
import { Fault } from '#core/fault/fault.ts'
import { requireIp } from '#core/ip/address.ts'
import { type Cidr, requireCidr } from '#core/ip/cidr.ts'
import { wireguardCrypto } from '#io/crypto/wireguard-crypto.ts'
import { seededRandom } from '#test/kit/seeded-random.ts'
import { Node, Wire, wireguardPair } from '#test/kit/wireguard-pair.ts'
import type { PeerChange } from './change.ts'
import { Device } from './device.ts'
import { type PublicKey, publicKeyOf } from './key.ts'

const now = { monotonic: 1_000_000, unix: 1_790_000_000_000 }
const random = seededRandom(42)
const newKey = (): PublicKey => publicKeyOf(wireguardCrypto.importKey(random(32)).publicKey)
const newDevice = (maxPeers = 8) => new Device({ crypto: wireguardCrypto, random, maxPeers })
const prefix = (text: string): Cidr => requireCidr(text, 'prefix')
const peer = (publicKey: PublicKey, change: Partial<PeerChange> = {}): PeerChange => ({
  publicKey,
  remove: false,
  updateOnly: false,
  replaceAllowedIps: false,
  allowedIps: [],
  ...change,
})
const add = (...prefixes: string[]) => prefixes.map((text) => ({ prefix: prefix(text), remove: false }))

/** What is asked of the engine, but for the key of mac1, which has a test of its own. */
function drain(device: Device): EngineRequest[] {
  return drainAll(device).filter(({ op }) => op !== 'setMacKey')
}

function drainAll(device: Device): EngineRequest[] {
  const requests: EngineRequest[] = []
  for (let request = device.poll(); request !== undefined; request = device.poll()) requests.push(request)
  return requests
}

test('what cannot be a peer is refused, and nothing of the change is applied', () => {
  const device = newDevice()
  const privateKey = random(32)
  device.configure(now, { privateKey, replacePeers: false, peers: [] })
  const own = device.publicKey!
  const twice = newKey()
  const zero = publicKeyOf(new Uint8Array(32))
  for (const [code, peers] of [
    ['wireguard.peer.self', [peer(own)]],
    ['wireguard.peer.duplicate', [peer(twice), peer(twice)]],
    ['wireguard.peer.zero', [peer(zero)]],
    ['wireguard.peer.full', Array.from({ length: 9 }, () => peer(newKey()))],
  ] as const) {
    assert.throws(
      () => device.configure(now, { listenPort: 9, replacePeers: false, peers: [peer(newKey()), ...peers] }),
      (error) => error instanceof Fault && error.code === code,
      code,
    )
    assert.equal(device.peers.size, 0)
    assert.equal(device.listenPort, 0)
  }
  assert.deepEqual(drain(device), [])
})

test('a peer with a key of small order does no harm to the others, before or after the private key', () => {
  const lowOrder = publicKeyOf(Uint8Array.of(1, ...new Uint8Array(31)))
  const change = { replacePeers: false, peers: [peer(newKey()), peer(lowOrder)] }
  const early = newDevice()
  early.configure(now, change)
  early.configure(now, { privateKey: random(32), replacePeers: false, peers: [] })
  assert.equal(early.peers.size, 2)
  const late = newDevice()
  late.configure(now, { privateKey: random(32), ...change })
  assert.equal(late.peers.size, 2)
})

test('a private key whose public key is a peer is refused', () => {
  const device = newDevice()
  const privateKey = random(32)
  const publicKey = publicKeyOf(wireguardCrypto.importKey(privateKey).publicKey)
  device.configure(now, { replacePeers: false, peers: [peer(publicKey)] })
  assert.throws(() => device.configure(now, { privateKey, replacePeers: false, peers: [] }), Fault)
  assert.equal(device.publicKey, undefined)
})

test('the engine is told which mac1 is right: whenever the private key changes, and each engine anew', () => {
  const device = newDevice()
  const told = () => drainAll(device).flatMap((request) => (request.op === 'setMacKey' ? [request.macKey] : []))
  const privateKey = random(32)
  const publicKey = wireguardCrypto.importKey(privateKey).publicKey
  const right = wireguardCrypto.hash(new TextEncoder().encode('mac1----'), publicKey)
  device.configure(now, { privateKey, replacePeers: false, peers: [] })
  assert.deepEqual(told(), [right])
  device.configure(now, { privateKey, listenPort: 7, replacePeers: false, peers: [] })
  assert.deepEqual(told(), [])
  device.reconcile(now, { peers: [], sessions: [], allowed: [] }, false)
  assert.deepEqual(told(), [right])
  device.configure(now, { privateKey: 'none', replacePeers: false, peers: [] })
  assert.deepEqual(told(), [new Uint8Array(32)])
})

test('a prefix that moves to another peer is never without one', () => {
  const device = newDevice()
  const [a, b, c] = [newKey(), newKey(), newKey()]
  device.configure(now, { replacePeers: false, peers: [peer(a, { allowedIps: add('10.1.0.0/16', '10.2.0.0/16') })] })
  drain(device)
  device.configure(now, {
    replacePeers: true,
    peers: [peer(b, { allowedIps: add('10.1.0.0/16') }), peer(c, { allowedIps: add('10.2.0.0/16') })],
  })
  const requests = drain(device)
  const ops = requests.map(({ op }) => op)
  assert.ok(ops.lastIndexOf('allow') < ops.indexOf('removePeer'), ops.join(' '))
  assert.ok(!ops.includes('disallow'))
  device.configure(now, {
    replacePeers: false,
    peers: [peer(b, { replaceAllowedIps: true }), peer(c, { replaceAllowedIps: true, allowedIps: add('10.1.0.0/16') })],
  })
  const moved = drain(device)
  const slotOfC = device.peers.get(c)!.slot
  assert.deepEqual(
    moved.filter(({ op }) => op === 'allow' || op === 'disallow'),
    [
      { op: 'allow', peer: slotOfC, prefixes: [prefix('10.1.0.0/16')] },
      { op: 'disallow', peer: slotOfC, prefixes: [prefix('10.2.0.0/16')] },
    ],
  )
})

test('more replaced peers than there is room for both at once', () => {
  const device = newDevice(4)
  for (let round = 0; round < 3; round++) {
    device.configure(now, { replacePeers: true, peers: Array.from({ length: 4 }, () => peer(newKey())) })
    assert.equal(device.peers.size, 4)
  }
  const slots = new Set(drain(device).flatMap((r) => (r.op === 'setPeer' ? [r.peer] : [])))
  assert.ok([...slots].every((slot) => slot < 4))
})

test('sessions stay when a peer is named again, also in a full replacement', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'x')
  wire.clock.advance(1000)
  const { privateKey, endpoint } = { privateKey: alice.privateKey, endpoint: bob.endpoint }
  const same = peer(bob.publicKey, { endpoint, replaceAllowedIps: true, allowedIps: add('10.0.0.2/32') })
  alice.configure({ privateKey, replacePeers: true, peers: [same] })
  alice.send(bob, 'y')
  wire.clock.advance(1000)
  assert.equal(wire.count('initiation'), 1)
  assert.deepEqual(bob.texts(), ['x', 'y'])
})

test('a new private key ends all sessions', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'x')
  wire.clock.advance(1000)
  alice.configure({ privateKey: random(32), replacePeers: false, peers: [] })
  assert.equal(alice.engine.dump().sessions.length, 0)
  alice.send(bob, 'y')
  wire.clock.advance(10_000)
  assert.deepEqual(bob.texts(), ['x'], 'the other side does not know the new key')
})

test('under load a cookie is asked for, and who has it gets through', () => {
  const wire = new Wire()
  const alice = new Node(wire, 1, '192.0.2.1', '10.0.0.1')
  const bob = new Node(wire, 2, '192.0.2.2', '10.0.0.2')
  alice.know(bob)
  bob.device = new Device({ crypto: wireguardCrypto, random, maxPeers: 8, handshakeLimit: 0 })
  bob.configure({ privateKey: bob.privateKey, replacePeers: false, peers: [] })
  bob.know(alice)
  alice.send(bob, 'x')
  wire.clock.advance(1000)
  assert.deepEqual(wire.types(), ['initiation', 'cookie'])
  assert.deepEqual(bob.received, [])
  wire.clock.advance(6000)
  assert.deepEqual(bob.texts(), ['x'])
  assert.equal(bob.device.verdicts.get('cookie-sent'), 1)
})

test('initiations closer than 20 ms are not calculated for one peer', () => {
  const { wire, alice, bob } = wireguardPair()
  wire.fate = () => []
  alice.send(bob, 'x')
  wire.clock.advance(12_000)
  const initiations = wire.seen.map(({ bytes }) => bytes)
  assert.equal(initiations.length, 3)
  const verdicts = initiations.map((bytes) =>
    bob.device.handleHandshake(wire.clock.now, bytes, alice.endpoint, undefined),
  )
  assert.deepEqual(verdicts, ['taken', 'flood', 'flood'])
})

test('handshake messages that are cut, changed, of strangers or of another device are refused', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'x')
  wire.clock.advance(1000)
  const [initiation, response] = wire.seen.map(({ bytes }) => bytes) as [Uint8Array, Uint8Array]
  const stranger = new Node(new Wire(), 9, '192.0.2.9', '10.0.0.9')
  const handle = (node: Node, bytes: Uint8Array) =>
    node.device.handleHandshake(wire.clock.now, bytes, alice.endpoint, undefined)
  assert.equal(handle(stranger, initiation), 'forged', 'mac1 is for another key')
  assert.equal(handle(bob, initiation), 'replayed')
  assert.equal(handle(alice, response), 'unknown', 'answered already')
  assert.equal(handle(bob, initiation.subarray(0, 147)), 'malformed')
  assert.equal(handle(bob, wire.seen[2]!.bytes), 'malformed', 'data is no handshake')
  for (let i = 0; i < initiation.length; i++) {
    const changed = initiation.slice()
    changed[i]! ^= 1
    // mac2 is looked at under load only
    assert.notEqual(handle(bob, changed), 'taken', `byte ${i}`)
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      assert.notEqual(handle(bob, bytes), 'taken')
    }),
    { seed: 6 },
  )
  bob.configure({ replacePeers: true, peers: [] })
  assert.equal(handle(bob, initiation), 'unknown')
  bob.configure({ privateKey: 'none', replacePeers: false, peers: [] })
  assert.equal(handle(bob, initiation), 'no-key')
})

test('mac1 is checked before any Diffie-Hellman', () => {
  let exchanges = 0
  const counting = {
    ...wireguardCrypto,
    importKey(bytes: Uint8Array) {
      const key = wireguardCrypto.importKey(bytes)
      return {
        publicKey: key.publicKey,
        exchange(remote: Uint8Array) {
          exchanges++
          return key.exchange(remote)
        },
      }
    },
  }
  const { wire, alice, bob } = wireguardPair()
  wire.fate = () => []
  alice.send(bob, 'x')
  const bytes = wire.seen[0]!.bytes.slice()
  bytes[120]! ^= 1
  const device = new Device({ crypto: counting, random, maxPeers: 8 })
  device.configure(now, { privateKey: bob.privateKey, replacePeers: false, peers: [peer(alice.publicKey)] })
  exchanges = 0
  assert.equal(device.handleHandshake(now, bytes, alice.endpoint, undefined), 'forged')
  assert.equal(exchanges, 0)
  assert.equal(device.handleHandshake(now, wire.seen[0]!.bytes, alice.endpoint, undefined), 'taken')
  assert.equal(exchanges, 3, 'static-static was calculated before')
})

test('an engine that comes back without its memory gets all again, and the other side a new handshake', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'x')
  wire.clock.advance(10_000)
  for (const { peer: slot } of alice.engine.dump().peers) alice.engine.handle({ op: 'removePeer', peer: slot })
  alice.device.reconcile(wire.clock.now, alice.engine.dump(), false)
  alice.settle()
  wire.clock.advance(1000)
  assert.equal(wire.count('initiation'), 2)
  bob.send(alice, 'y')
  wire.clock.advance(1000)
  assert.deepEqual(alice.texts(), ['y'])
})

test('reconciling removes what nobody configured and keeps what is right', () => {
  const { wire, alice, bob } = wireguardPair()
  const stale = newKey()
  alice.engine.handle({ op: 'setPeer', peer: 9, publicKey: stale, endpoint: undefined })
  alice.engine.handle({ op: 'allow', peer: 9, prefixes: [prefix('10.9.0.0/16')] })
  const bobSlot = alice.peer(bob).slot
  alice.engine.handle({ op: 'allow', peer: bobSlot, prefixes: [prefix('10.8.0.0/16')] })
  alice.device.reconcile(wire.clock.now, alice.engine.dump(), false)
  assert.deepEqual(drain(alice.device), [
    { op: 'disallow', peer: bobSlot, prefixes: [prefix('10.8.0.0/16')] },
    { op: 'removePeer', peer: 9 },
  ])
  assert.deepEqual(wire.seen, [])
  assert.equal(alice.peer(bob).endpoint?.ip, requireIp('192.0.2.2', ''))
})
