import assert from 'node:assert/strict'
import { createHmac, hash } from 'node:crypto'
import { test } from 'node:test'
import { blake2s as noble } from '@noble/hashes/blake2.js'
import fc from 'fast-check'
import { blake2s, hkdf } from './blake2s.ts'

const bytes = (length: number) => Uint8Array.from({ length }, (_, i) => (7 * i + length) & 255)
const options = { seed: 7, numRuns: 300 }

test('RFC 7693: the self-test of appendix E', () => {
  const sequence = (length: number, seed: number) => {
    let [a, b] = [Math.imul(0xdead4bad, seed), 1]
    return Uint8Array.from({ length }, () => {
      const t = (a + b) | 0
      ;[a, b] = [b, t]
      return t >>> 24
    })
  }
  const all: Uint8Array[] = []
  for (const length of [16, 20, 28, 32]) {
    for (const inputLength of [0, 3, 64, 65, 255, 1024]) {
      const input = sequence(inputLength, inputLength)
      all.push(blake2s([input], length), blake2s([input], length, sequence(length, length)))
    }
  }
  assert.equal(blake2s(all).toHex(), '6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe')
})

test('every length around block edges, and however it is cut, is what OpenSSL makes of it', () => {
  for (let length = 0; length <= 300; length++) {
    const text = bytes(length)
    const expected = hash('blake2s256', text, 'hex')
    assert.equal(blake2s([text]).toHex(), expected, `${length} bytes`)
    const cut = (length * 31) % (length + 1)
    assert.equal(blake2s([text.subarray(0, cut), text.subarray(cut)]).toHex(), expected, `${length} bytes, cut`)
  }
})

test('keyed, of any length, it is what noble makes of it', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.uint8Array({ minLength: 1, maxLength: 32 }),
      fc.integer({ min: 1, max: 32 }),
      (text, key, length) => {
        assert.deepEqual(blake2s([text], length, key), noble(text, { key, dkLen: length }))
      },
    ),
    options,
  )
})

test('HKDF is the one of Noise, made of an HMAC of OpenSSL', () => {
  const hmac = (key: Uint8Array, ...parts: Uint8Array[]) => {
    const made = createHmac('blake2s256', key)
    for (const part of parts) made.update(part)
    return new Uint8Array(made.digest())
  }
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.uint8Array({ maxLength: 130 }), (key, input) => {
      const temporary = hmac(key, input)
      const first = hmac(temporary, Uint8Array.of(1))
      const second = hmac(temporary, first, Uint8Array.of(2))
      const third = hmac(temporary, second, Uint8Array.of(3))
      assert.deepEqual(hkdf(key, input, 3), [first, second, third])
      assert.deepEqual(hkdf(key, input, 2), [first, second])
    }),
    options,
  )
})
