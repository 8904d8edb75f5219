import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { fromHex, toHex } from '#core/bytes/text.ts'
import { wireguardCrypto as crypto } from '#io/crypto/wireguard-crypto.ts'
import type { DhKey } from './crypto.ts'
import { readInitiation, writeInitiation } from './ikpsk2.ts'

interface Message {
  payload: string
  ciphertext: string
}

interface Vector {
  init_prologue: string
  init_psks: [string]
  init_static: string
  init_ephemeral: string
  init_remote_static: string
  resp_static: string
  resp_ephemeral: string
  handshake_hash: string
  messages: Message[]
}

const file = new URL('../../test/vectors/noise-ikpsk2.json', import.meta.url)
const { vectors } = JSON.parse(readFileSync(file, 'utf8')) as { vectors: Vector[] }
const hex = (text: string) => fromHex(text) as Uint8Array
const empty = new Uint8Array(0)
const [vector] = vectors as [Vector]

function parties(v: Vector) {
  const prologue = hex(v.init_prologue)
  const initiator = { prologue, static: crypto.importKey(hex(v.init_static)) }
  const responder = { prologue, static: crypto.importKey(hex(v.resp_static)) }
  const staticStatic = initiator.static.exchange(responder.static.publicKey)!
  return {
    initiator,
    responder,
    staticStatic,
    remote: { publicKey: responder.static.publicKey, staticStatic },
    psk: hex(v.init_psks[0]),
    ephemerals: [crypto.importKey(hex(v.init_ephemeral)), crypto.importKey(hex(v.resp_ephemeral))] as const,
  }
}

test('the handshake and its keys are those of the cacophony vectors', () => {
  assert.equal(vectors.length, 1)
  for (const v of vectors) {
    const { initiator, responder, staticStatic, remote, psk, ephemerals } = parties(v)
    const [m1, m2, ...transport] = v.messages as [Message, Message, ...Message[]]
    assert.equal(toHex(remote.publicKey), v.init_remote_static)

    const written = writeInitiation(crypto, initiator, remote, ephemerals[0], hex(m1.payload))!
    assert.equal(toHex(written.message), m1.ciphertext)
    const seen = readInitiation(crypto, responder, written.message)!
    assert.deepEqual(seen.remoteStatic, initiator.static.publicKey)
    const read = seen.readPayload(staticStatic)!
    assert.equal(toHex(read.payload), m1.payload)
    const answer = read.next.writeResponse(ephemerals[1], psk, hex(m2.payload))!
    assert.equal(toHex(answer.message), m2.ciphertext)
    const got = written.next.readResponse(answer.message, psk)!
    assert.equal(toHex(got.payload), m2.payload)

    assert.equal(toHex(got.keys.hash), v.handshake_hash)
    assert.equal(toHex(answer.keys.hash), v.handshake_hash)
    assert.deepEqual([got.keys.send, got.keys.receive], [answer.keys.receive, answer.keys.send])
    transport.forEach((message, i) => {
      const from = i % 2 === 0 ? got.keys : answer.keys
      const sealed = crypto.seal(from.send, BigInt(i >> 1), hex(message.payload), empty)
      assert.equal(toHex(sealed), message.ciphertext)
    })
  }
})

test('a forged response leaves the initiator waiting for the right one', () => {
  const { initiator, responder, staticStatic, remote, psk, ephemerals } = parties(vector)
  const written = writeInitiation(crypto, initiator, remote, ephemerals[0], empty)!
  const answer = readInitiation(crypto, responder, written.message)!
    .readPayload(staticStatic)!
    .next.writeResponse(ephemerals[1], psk, empty)!
  for (let i = 0; i < answer.message.length; i++) {
    const forged = answer.message.slice()
    forged[i]! ^= 1
    assert.equal(written.next.readResponse(forged, psk), undefined, `byte ${i}`)
  }
  assert.equal(written.next.readResponse(answer.message, new Uint8Array(32)), undefined, 'another pre-shared key')
  assert.equal(written.next.readResponse(answer.message.subarray(0, 47), psk), undefined)
  assert.ok(written.next.readResponse(answer.message, psk))
})

test('a changed initiation is refused, whatever byte was changed', () => {
  const { initiator, responder, staticStatic, remote, ephemerals } = parties(vector)
  const { message } = writeInitiation(crypto, initiator, remote, ephemerals[0], Uint8Array.of(1, 2, 3))!
  for (let i = 0; i < message.length; i++) {
    const forged = message.slice()
    forged[i]! ^= 0x40
    assert.equal(readInitiation(crypto, responder, forged)?.readPayload(staticStatic), undefined, `byte ${i}`)
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      assert.equal(readInitiation(crypto, responder, bytes), undefined)
    }),
    { seed: 1, numRuns: 50 },
  )
})

test('points of low order are refused on every exchange', () => {
  const { initiator, responder, staticStatic, remote, psk, ephemerals } = parties(vector)
  const zero = new Uint8Array(32)
  assert.equal(initiator.static.exchange(zero), undefined)
  assert.equal(writeInitiation(crypto, initiator, { ...remote, publicKey: zero }, ephemerals[0], empty), undefined)
  const lowOrder: DhKey = { publicKey: zero, exchange: () => new Uint8Array(32) }
  const { message } = writeInitiation(crypto, initiator, remote, lowOrder, empty)!
  assert.equal(readInitiation(crypto, responder, message), undefined)
  const good = writeInitiation(crypto, initiator, remote, ephemerals[0], empty)!
  const read = readInitiation(crypto, responder, good.message)!.readPayload(staticStatic)!
  const answer = read.next.writeResponse(ephemerals[1], psk, empty)!
  assert.equal(good.next.readResponse(new Uint8Array(answer.message.length), psk), undefined)
})

test('an encryption key works once', () => {
  const { initiator, responder, staticStatic, remote, psk, ephemerals } = parties(vector)
  const written = writeInitiation(crypto, initiator, remote, ephemerals[0], empty)!
  const read = readInitiation(crypto, responder, written.message)!.readPayload(staticStatic)!
  const answer = read.next.writeResponse(ephemerals[1], psk, empty)!
  assert.ok(written.next.readResponse(answer.message, psk))
  assert.equal(written.next.readResponse(answer.message, psk), undefined, 'the state is gone after success')
})
