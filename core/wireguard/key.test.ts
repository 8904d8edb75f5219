import assert from 'node:assert/strict'
import { createPublicKey, diffieHellman, generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import { fromHex, toBase64 } from '#core/bytes/text.ts'
import { plan } from '#core/plan/plan.ts'
import { peerOf, snapshotOf } from '#test/kit/snapshots.ts'
import { parsePublicKey } from './key.ts'

const { privateKey } = generateKeyPairSync('x25519')

/** OpenSSL's judgement: it refuses a shared secret of zeros. */
function agrees(key: Uint8Array): boolean {
  const jwk = { kty: 'OKP', crv: 'X25519', x: Buffer.from(key).toString('base64url') }
  try {
    diffieHellman({ privateKey, publicKey: createPublicKey({ key: jwk, format: 'jwk' }) })
    return true
  } catch {
    return false
  }
}

/** Judged by OpenSSL below, each in both forms of bit 255 and beside a neighbour that is a good key. */
const SMALL = [
  '00'.repeat(32),
  `01${'00'.repeat(31)}`,
  `ec${'ff'.repeat(30)}7f`,
  `ed${'ff'.repeat(30)}7f`,
  `ee${'ff'.repeat(30)}7f`,
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
].map((hex) => fromHex(hex) as Uint8Array)

test('keys that no secret can be agreed with are no keys', () => {
  for (const key of SMALL) {
    for (const top of [0, 0x80]) {
      const form = Uint8Array.from(key, (byte, index) => (index === 31 ? byte | top : byte))
      assert.equal(agrees(form), false)
      assert.equal(parsePublicKey(toBase64(form)), undefined)
      const other = Uint8Array.from(form, (byte, index) => (index === 0 ? byte ^ 8 : byte))
      assert.equal(agrees(other), true)
      assert.equal(parsePublicKey(toBase64(other)), toBase64(other))
    }
  }
})

test('such a key is a problem of its node alone', () => {
  for (const key of SMALL) {
    const p = plan(snapshotOf(1, 3, [peerOf(2, 3, { publicKeyText: toBase64(key) }), peerOf(3, 3)]))
    assert.ok(p.usable)
    assert.deepEqual(
      p.problems.map(({ code, object }) => `${code} ${object}`),
      ['peer.key.invalid CiliumNode/node-2'],
    )
    assert.deepEqual(
      p.wireguard?.peers.map(({ endpoint }) => endpoint?.ip),
      ['172.18.0.5'],
    )
  }
})
