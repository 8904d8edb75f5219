import assert from 'node:assert/strict'
import { test } from 'node:test'
import { requireIp } from '#core/ip/address.ts'
import { Device } from '#core/wireguard/device.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { wireguardCrypto as crypto } from '#io/crypto/wireguard-crypto.ts'
import { seededRandom } from '#test/kit/seeded-random.ts'
import { addressOf, Initiator } from './crowd.ts'

const responderKey = new Uint8Array(32).fill(7)
const ownKey = new Uint8Array(32).fill(9)
const responder = crypto.importKey(responderKey).publicKey
const own = publicKeyOf(crypto.importKey(ownKey).publicKey)

/** A device that knows the initiator; gives what it answers. */
function responderOf(handshakeLimit: number): (message: Uint8Array, monotonic: number) => Uint8Array[] {
  const device = new Device({ crypto, random: seededRandom(1), maxPeers: 4, handshakeLimit })
  device.configure(
    { monotonic: 0, unix: 1e12 },
    { privateKey: responderKey.slice(), replacePeers: false, peers: [peerChange()] },
  )
  const source = { ip: requireIp(addressOf(0), 'source'), port: 51820, scope: 0 }
  return (message, monotonic) => {
    while (device.poll() !== undefined);
    device.handleEvent(
      { monotonic, unix: 1e12 + monotonic },
      {
        type: 'handshake',
        source,
        destination: source,
        ecn: 0,
        message,
      },
    )
    const answers: Uint8Array[] = []
    for (let request = device.poll(); request !== undefined; request = device.poll()) {
      if (request.op === 'send') answers.push(request.message)
    }
    return answers
  }
}

function peerChange() {
  return { publicKey: own, remove: false, updateOnly: false, replaceAllowedIps: false, allowedIps: [] }
}

test('an initiator takes the answer of our own responder, and nothing else', () => {
  const ask = responderOf(1000)
  const initiator = new Initiator(ownKey, responder, 1)
  const [answer] = ask(initiator.initiation({ monotonic: 1000, unix: 1e12 }), 1000)
  assert.ok(answer !== undefined)
  const forged = answer.slice()
  forged[20] = (forged[20] ?? 0) ^ 1
  assert.equal(initiator.take(1001, forged), 'answer')
  assert.equal(initiator.verified(), false, 'a forged answer does not authenticate')
  const [second] = ask(initiator.initiation({ monotonic: 2000, unix: 1e12 }), 2000)
  assert.ok(second !== undefined, 'a later initiation has a later label though the clock stood still')
  assert.equal(initiator.take(2001, answer), 'answer')
  assert.equal(initiator.verified(), false, 'the answer to an earlier initiation is none')
  const [third] = ask(initiator.initiation({ monotonic: 3000, unix: 1e12 }), 3000)
  assert.equal(initiator.take(3001, third ?? new Uint8Array()), 'answer')
  assert.equal(initiator.verified(), true)
})

test('a cookie is taken and makes the next initiation one that is served', () => {
  const ask = responderOf(0)
  const initiator = new Initiator(ownKey, responder, 1)
  const [cookie] = ask(initiator.initiation({ monotonic: 1000, unix: 1e12 }), 1000)
  assert.equal(initiator.take(1001, cookie ?? new Uint8Array()), 'cookie')
  const [answer] = ask(initiator.initiation({ monotonic: 6000, unix: 1e12 + 5000 }), 6000)
  assert.equal(initiator.take(6001, answer ?? new Uint8Array()), 'answer')
  assert.equal(initiator.verified(), true)
})
