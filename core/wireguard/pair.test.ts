import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { seededRandom } from '#test/kit/seeded-random.ts'
import { Node, Wire, wireguardPair } from '#test/kit/wireguard-pair.ts'

// Two devices and a wire between them, in virtual time. Longer than other files: each rule of the paper is one short story
// of the same pair.
const SECOND = 1000

test('a waiting packet makes one handshake and then arrives', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'hello')
  wire.clock.advance(100)
  assert.deepEqual(bob.texts(), ['hello'])
  assert.deepEqual(wire.types().slice(0, 3), ['initiation', 'response', 'data'])
  assert.equal(wire.count('initiation'), 1)
  bob.send(alice, 'and back')
  wire.clock.advance(100)
  assert.deepEqual(alice.texts(), ['and back'])
  assert.equal(wire.count('initiation'), 1)
  assert.equal(alice.peer(bob).lastHandshake !== undefined, true)
  assert.equal(bob.peer(alice).lastHandshake !== undefined, true)
})

test('a packet for a peer that does not know us yet arrives as soon as it does, when it greets', () => {
  for (const greet of [true, false]) {
    const wire = new Wire()
    const [alice, bob] = [new Node(wire, 1, '192.0.2.1', '10.0.0.1'), new Node(wire, 2, '192.0.2.2', '10.0.0.2')]
    // nobody is there yet
    wire.fate = () => []
    alice.know(bob, { greet: true })
    alice.send(bob, 'early')
    wire.clock.advance(50)
    wire.fate = () => [5]
    bob.know(alice, { greet })
    wire.clock.advance(100)
    assert.deepEqual(bob.texts(), greet ? ['early'] : [])
    // else when alice tries again by herself, after REKEY_TIMEOUT
    wire.clock.advance(6 * SECOND)
    assert.deepEqual(bob.texts(), ['early'])
  }
})

test('who called before we knew it is called back as soon as we do', () => {
  const wire = new Wire()
  const [alice, bob] = [new Node(wire, 1, '192.0.2.1', '10.0.0.1'), new Node(wire, 2, '192.0.2.2', '10.0.0.2')]
  alice.know(bob)
  alice.send(bob, 'early')
  wire.clock.advance(50)
  assert.equal(bob.device.verdicts.get('unknown'), 1)
  bob.know(alice)
  wire.clock.advance(100)
  assert.deepEqual(bob.texts(), ['early'])
  assert.equal(wire.count('response'), 1)
})

test('a private key that is changed soon after a handshake is used at once', () => {
  for (const told of ['first', 'last']) {
    const { wire, alice, bob } = wireguardPair()
    alice.send(bob, 'x')
    wire.clock.advance(1000)
    const next = new Node(new Wire(), 77, '192.0.2.1', '10.0.0.1')
    const tell = () => {
      bob.configure({ replacePeers: true, peers: [] })
      bob.know(next)
    }
    if (told === 'first') tell()
    alice.configure({ privateKey: next.privateKey, replacePeers: false, peers: [] })
    alice.send(bob, 'y')
    wire.clock.advance(50)
    if (told === 'last') tell()
    wire.clock.advance(50)
    assert.deepEqual(bob.texts(), ['x', 'y'], `the other side is told ${told}`)
  }
})

test('a greeting is one handshake, and none where there is a session', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.know(bob, { greet: true })
  wire.clock.advance(100)
  bob.know(alice, { greet: true })
  alice.know(bob, { greet: true })
  wire.clock.advance(100)
  assert.equal(wire.count('initiation'), 1)
})

test('the eavesdropper sees no text, and data in multiples of 16 bytes', () => {
  const { wire, alice, bob } = wireguardPair()
  for (const text of ['MARKER', 'MARKER again', 'MARKER, and longer than before']) alice.send(bob, text)
  wire.clock.advance(100)
  assert.equal(bob.texts().length, 3)
  for (const { bytes, message } of wire.seen) {
    assert.ok(!Buffer.from(bytes).includes('MARKER'))
    if (message?.type === 'data') assert.equal(message.packet.length % 16, 0)
  }
})

test('nothing is sent while nobody talks', () => {
  const { wire } = wireguardPair()
  wire.clock.advance(3600 * SECOND)
  assert.deepEqual(wire.seen, [])
})

test('after the last data one keepalive follows, and keepalives answer no keepalives', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'x')
  wire.clock.advance(SECOND)
  const before = wire.seen.length
  wire.clock.advance(100 * SECOND)
  const after = wire.seen.slice(before)
  assert.equal(after.length, 1)
  assert.deepEqual(after[0]?.from, bob.endpoint)
  assert.equal(after[0]?.bytes.length, 32)
  const sent = wire.seen[2]?.at ?? 0
  assert.ok(Math.abs((after[0]?.at ?? 0) - sent - 10 * SECOND) < 300)
})

test('the initiator renews the session after 120 s of use, without losing a packet', () => {
  const { wire, alice, bob } = wireguardPair()
  let sent = 0
  for (let t = 0; t < 400; t++) {
    wire.clock.after(t * SECOND, () => alice.send(bob, `${sent++}`))
    wire.clock.after(t * SECOND + 500, () => bob.send(alice, 'pong'))
  }
  wire.clock.advance(401 * SECOND)
  assert.deepEqual(
    bob.texts(),
    Array.from({ length: 400 }, (_, i) => `${i}`),
  )
  assert.equal(alice.received.length, 400)
  const initiations = wire.seen.filter(({ message }) => message?.type === 'initiation')
  assert.equal(initiations.length, 4, 'at 0, 120, 240, 360 s')
  assert.ok(initiations.every(({ from }) => from.ip === alice.endpoint.ip))
})

test('who only receives renews before the session ends', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'first')
  wire.clock.advance(SECOND)
  for (let t = 0; t < 300; t++) wire.clock.after(t * SECOND, () => bob.send(alice, `${t}`))
  wire.clock.advance(301 * SECOND)
  assert.equal(alice.received.length, 300)
  const [, second] = wire.seen.filter(({ message }) => message?.type === 'initiation')
  assert.equal(second?.from.ip, alice.endpoint.ip)
})

test('a handshake without answer is tried every 5 s for 90 s, then given up; a new packet begins again', () => {
  const { wire, alice, bob } = wireguardPair()
  wire.fate = () => []
  alice.send(bob, 'x')
  wire.clock.advance(200 * SECOND)
  const times = wire.seen.map(({ at }) => at)
  assert.ok(times.length >= 17 && times.length <= 19, `${times.length} attempts`)
  const gaps = times.slice(1).map((at, i) => at - (times[i] ?? 0))
  assert.ok(
    gaps.every((gap) => gap >= 5000 && gap <= 5334),
    gaps.join(' '),
  )
  assert.ok(new Set(gaps.map((gap) => Math.round(gap))).size > 5, 'jitter')
  assert.equal(alice.requests.filter(({ op }) => op === 'dropWaiting').length, 1)
  const senders = wire.seen.map(({ message }) => message?.type === 'initiation' && message.sender)
  assert.equal(new Set(senders).size, senders.length, 'every attempt has an index of its own')
  assert.equal(alice.device.indices.size, 0, 'and none is left')
  wire.fate = () => [5]
  alice.send(bob, 'y')
  wire.clock.advance(SECOND)
  assert.deepEqual(bob.texts(), ['y'])
})

test('data without an answer makes a new handshake after 15 s', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'x')
  wire.clock.advance(30 * SECOND)
  wire.fate = () => []
  const from = wire.clock.now.monotonic
  alice.send(bob, 'lost')
  wire.clock.advance(20 * SECOND)
  const initiation = wire.seen.find(({ at, message }) => at >= from && message?.type === 'initiation')
  assert.ok(initiation)
  assert.ok(initiation.at - from >= 15_000 && initiation.at - from <= 15_700, `${initiation.at - from}`)
})

test('a session is dead after 180 s, and its keys are gone after 540 s', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'x')
  wire.clock.advance(180 * SECOND)
  const handshakes = wire.count('initiation')
  bob.send(alice, 'late')
  wire.clock.advance(SECOND)
  assert.equal(wire.count('initiation'), handshakes + 1)
  assert.deepEqual(alice.texts(), ['late'])
  wire.clock.advance(560 * SECOND)
  for (const node of [alice, bob]) {
    assert.equal(node.engine.dump().sessions.length, 0)
    assert.equal(node.device.indices.size, 0)
  }
})

test('both begin at once: one session, nothing lost, no second round', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'a')
  bob.send(alice, 'b')
  wire.clock.advance(4 * SECOND)
  assert.deepEqual(alice.texts(), ['b'])
  assert.deepEqual(bob.texts(), ['a'])
  for (let i = 0; i < 50; i++) {
    alice.send(bob, 'a')
    bob.send(alice, 'b')
    wire.clock.advance(SECOND)
  }
  assert.equal(alice.received.length, 51)
  assert.equal(bob.received.length, 51)
  assert.equal(wire.count('initiation'), 2)
})

test('persistent keepalive: one packet per interval, and a handshake without any data', () => {
  const { wire, alice, bob } = wireguardPair({ persistentKeepalive: 25 })
  wire.clock.advance(100 * SECOND)
  assert.ok(bob.peer(alice).lastHandshake !== undefined)
  const from = wire.clock.now.monotonic
  wire.clock.advance(50 * SECOND)
  const data = wire.seen.filter(({ at, message }) => at > from && message?.type === 'data')
  assert.ok(data.length >= 2 && data.length <= 5, `${data.length}`)
  assert.ok(data.every(({ bytes }) => bytes.length === 32))
})

test('pre-shared keys must agree; one that changes is used from a handshake on that begins at once', () => {
  const { wire, alice, bob } = wireguardPair({ presharedKey: new Uint8Array(32).fill(7) })
  alice.send(bob, 'x')
  wire.clock.advance(SECOND)
  assert.deepEqual(bob.texts(), ['x'])
  wire.clock.advance(10 * SECOND)
  const before = wire.count('initiation')
  alice.know(bob, { presharedKey: new Uint8Array(32).fill(8) })
  for (let i = 0; i < 20; i++) {
    alice.send(bob, `during ${i}`)
    wire.clock.advance(SECOND)
  }
  assert.ok(wire.count('initiation') > before)
  bob.know(alice, { presharedKey: new Uint8Array(32).fill(8) })
  for (let i = 0; i < 20; i++) {
    alice.send(bob, `after ${i}`)
    wire.clock.advance(SECOND)
  }
  assert.equal(bob.received.length, 41, 'nothing was lost on the way')
  const { sessions } = alice.engine.dump()
  const current = sessions.find(({ place }) => place === 'current')
  assert.ok(current && wire.clock.now.monotonic - current.born < 30 * SECOND)
})

test('a wrong pre-shared key never makes a session', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.know(bob, { presharedKey: new Uint8Array(32).fill(1) })
  alice.send(bob, 'x')
  wire.clock.advance(60 * SECOND)
  assert.deepEqual(bob.received, [])
  assert.equal(alice.engine.dump().sessions.length, 0)
  assert.equal(wire.count('data'), 0)
})

test('a peer that moves is answered at its new place, by handshake and by data', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'x')
  wire.clock.advance(SECOND)
  alice.endpoint = { ...alice.endpoint, port: 40000 }
  alice.send(bob, 'from elsewhere')
  wire.clock.advance(SECOND)
  assert.equal(bob.peer(alice).endpoint?.port, 40000)
  bob.send(alice, 'found you')
  wire.clock.advance(SECOND)
  assert.deepEqual(alice.texts(), ['found you'])
  alice.endpoint = { ip: requireIp('198.51.100.9', ''), port: 1, scope: 0 }
  wire.clock.advance(200 * SECOND)
  alice.send(bob, 'again')
  wire.clock.advance(SECOND)
  assert.equal(bob.peer(alice).endpoint?.ip, '198.51.100.9')
})

test('a responder needs no endpoint', () => {
  const wire = new Wire()
  const [alice, bob] = [new Node(wire, 1, '192.0.2.1', 'fd00::1'), new Node(wire, 2, '2001:db8::2', 'fd00::2')]
  alice.know(bob)
  const prefix = requireCidr('fd00::/64', '')
  bob.configure({
    replacePeers: false,
    peers: [
      {
        publicKey: alice.publicKey,
        remove: false,
        updateOnly: false,
        replaceAllowedIps: false,
        allowedIps: [{ prefix, remove: false }],
      },
    ],
  })
  bob.send(alice, 'nowhere to go')
  wire.clock.advance(10 * SECOND)
  assert.deepEqual(wire.seen, [])
  alice.send(bob, 'here I am')
  wire.clock.advance(SECOND)
  assert.deepEqual(bob.texts(), ['here I am'])
  assert.deepEqual(alice.texts(), ['nowhere to go'])
})

test("a source that is not its peer's is dropped after decryption", () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'spoofed', requireIp('10.9.9.9', ''))
  alice.send(bob, 'honest')
  wire.clock.advance(SECOND)
  assert.deepEqual(bob.texts(), ['honest'])
  assert.equal(bob.engine.drops.get('wrong source'), 1)
})

test('what the eavesdropper plays again changes nothing', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'x')
  wire.clock.advance(SECOND)
  const [recorded, seen] = [[...wire.seen], wire.seen.length]
  const sessions = () => JSON.stringify(bob.engine.dump().sessions.map(({ local, place }) => [local, place]))
  const before = sessions()
  for (const { bytes, to } of recorded) {
    wire.inject(bytes, { ip: requireIp('203.0.113.66', ''), port: 6, scope: 0 }, to)
    wire.clock.advance(30)
  }
  assert.equal(wire.seen.length, seen, 'no answer')
  assert.equal(sessions(), before)
  assert.deepEqual(bob.texts(), ['x'])
  assert.equal(bob.peer(alice).endpoint?.ip, alice.endpoint.ip)
  assert.equal(bob.device.verdicts.get('replayed'), 1)
  assert.ok((bob.engine.drops.get('replayed') ?? 0) >= 1)
})

test('loss, reordering and duplication: whatever arrives is right, and once', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1_000_000 }), (seed) => {
      const { wire, alice, bob } = wireguardPair()
      const random = seededRandom(seed)
      const byte = () => random(1)[0] ?? 0
      wire.fate = () => (byte() < 50 ? [] : byte() < 50 ? [byte(), byte() * 4] : [byte() / 4])
      const sent: string[] = []
      for (let t = 0; t < 150; t++) {
        wire.clock.after(t * 2 * SECOND, () => alice.send(bob, sent[sent.push(`${t}`) - 1] ?? ''))
        wire.clock.after(t * 2 * SECOND + 3, () => bob.send(alice, `${t}`))
      }
      wire.clock.advance(320 * SECOND)
      for (const node of [alice, bob]) {
        const texts = node.texts()
        assert.equal(new Set(texts).size, texts.length, 'twice')
        assert.ok(texts.every((text) => sent.includes(text)))
        assert.ok(texts.length > 75, `only ${texts.length} of 150 arrived`)
        assert.ok(node.device.indices.size <= 5, 'indices leak')
      }
    }),
    { seed: 7, numRuns: 15 },
  )
})

test('a clock that was set back does not stop handshakes', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'x')
  wire.clock.advance(SECOND)
  wire.clock.stepUnix(-86_400 * SECOND)
  wire.clock.advance(200 * SECOND)
  alice.send(bob, 'y')
  wire.clock.advance(SECOND)
  assert.deepEqual(bob.texts(), ['x', 'y'])
})

test('a keeper that is killed takes its sessions over: no handshake, no packet lost', () => {
  const { wire, alice, bob } = wireguardPair()
  for (let t = 0; t < 100; t++) wire.clock.after(t * 100, () => alice.send(bob, `${t}`))
  wire.clock.advance(2 * SECOND)
  const prefix = requireCidr('10.0.0.2/32', '')
  alice.restartKeeper(3 * SECOND, {
    privateKey: alice.privateKey,
    replacePeers: true,
    peers: [
      {
        publicKey: bob.publicKey,
        remove: false,
        updateOnly: false,
        endpoint: { ...bob.endpoint, port: 9 },
        replaceAllowedIps: true,
        allowedIps: [{ prefix, remove: false }],
      },
    ],
  })
  wire.clock.advance(20 * SECOND)
  assert.equal(bob.received.length, 100)
  assert.equal(wire.count('initiation'), 1)
  assert.equal(alice.peer(bob).endpoint?.port, 51871, 'the engine knows better where the peer is')
  assert.ok(alice.peer(bob).lastHandshake !== undefined)
})

test('a keeper that finds an engine without its memory makes sessions at once, since the other side goes on sending', () => {
  const { wire, alice, bob } = wireguardPair()
  alice.send(bob, 'x')
  wire.clock.advance(SECOND)
  const { lastSentLabel } = alice.peer(bob)
  const before = wire.count('initiation')
  wire.clock.advance(10 * SECOND)
  const empty = { peers: [], sessions: [], allowed: [] }
  // one that never spoke with anybody stays silent
  const silent = new Node(wire, 9, '192.0.2.9', '10.0.0.9')
  silent.know(bob)
  silent.device.reconcile(wire.clock.now, empty, true)
  silent.settle()
  assert.equal(wire.count('initiation'), before)
  alice.peer(bob).sessions.clear()
  alice.peer(bob).restoreLabels({ sent: lastSentLabel })
  alice.device.reconcile(wire.clock.now, empty, true)
  alice.settle()
  wire.clock.advance(SECOND)
  assert.equal(wire.count('initiation'), before + 1)
  bob.send(alice, 'still here')
  wire.clock.advance(SECOND)
  assert.deepEqual(alice.texts(), ['still here'])
})
