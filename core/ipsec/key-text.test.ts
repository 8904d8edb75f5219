import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { toHex } from '#core/bytes/text.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import { unwrap } from '#core/fault/result.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import { hasPlus, parseKeyTexts, refuseWeak } from './key-text.ts'
import { formatKeyText, NEW_KEY_ALGORITHMS, newKeyText, nextKeyText } from './new-key-text.ts'
import { supportedInUserspace } from './userspace.ts'
import { keyWarnings } from './weak-key.ts'

const K20 = '8f1c2b3a4d5e6f708192a3b4c5d6e7f809ba1c2d'
const K16 = '1f0e8d2c7b6a59483726f5e4d3c2b1a0'
const K32 = '51b3a7c9e02f4d688a1c0b7e93d5f64210fe2dcb89a7465324158796b5a4c3d2'
const K36 = `${K32}0a1b2c3d`

const parse = (text: string) => unwrap(parseKeyTexts(text, ipsecHash))
const first = (text: string) => parse(text)[0]!
const errorOf = (text: string): Fault => {
  const parsed = parseKeyTexts(text, ipsecHash)
  assert.ok(!parsed.ok, `taken: ${text}`)
  return parsed.error
}

test('both forms are read, with +, 0x, any white space and several lines', () => {
  for (const text of [
    `3 rfc4106(gcm(aes)) ${K20} 128`,
    `3+ rfc4106(gcm(aes)) ${K20} 128\n`,
    ` \t3+\trfc4106(gcm(aes))   0x${K20.toUpperCase()}  128 \r\n\n`,
  ]) {
    const [key, ...more] = parse(text)
    assert.equal(more.length, 0)
    assert.deepEqual(
      { ...key, encryptionKey: toHex(key!.encryptionKey) },
      {
        id: 3,
        fingerprint: key!.fingerprint,
        encryptionAlgorithm: 'rfc4106(gcm(aes))',
        encryptionKey: K20,
        authenticationAlgorithm: undefined,
        authenticationKey: new Uint8Array(0),
        icvBytes: 16,
      },
    )
  }
  const two = first(`15 hmac(sha256) ${K32} cbc(aes) 0x${K16}`)
  assert.equal(two.id, 15)
  assert.equal(toHex(two.authenticationKey), K32)
  assert.equal(toHex(two.encryptionKey), K16)
  assert.equal(two.icvBytes, 16)
  const lines = parse(
    `3 rfc4106(gcm(aes)) ${K20} 128\n4 rfc7539esp(chacha20,poly1305) ${K36} 128\n3 rfc4106(gcm(aes)) ${K36} 96\n`,
  )
  assert.deepEqual(
    lines.map(({ id, icvBytes }) => [id, icvBytes]),
    [
      [3, 16],
      [4, 16],
      [3, 12],
    ],
  )
})

test("what is wrong is said in Cilium's words, where it is, and with what to do", () => {
  for (const [text, message, field] of [
    ['', 'error scanning IPsec key: empty or malformed input', 'line 1'],
    [' \n', 'error scanning IPsec key: empty or malformed input', 'line 1'],
    [`3 ${K20}`, 'missing IPSec key or invalid format', 'line 1'],
    [
      `3 rfc4106(gcm(aes)) ${K20} 128\n\n4 rfc4106(gcm(aes)) ${K36} 128`,
      'missing IPSec key or invalid format',
      'line 2',
    ],
    [
      `x a b c`,
      'failed to parse SPI: the first argument of the IPsec secret is not a number. Attempted "…" (1 characters, not shown)',
      'line 1, field 1',
    ],
    [
      `rfc4106(gcm(aes)) ${K20} 128`,
      'failed to parse SPI: the first argument of the IPsec secret is not a number. Attempted "rfc4106(gcm(aes))"',
      'line 1, field 1',
    ],
    [
      `3++ rfc4106(gcm(aes)) ${K20} 128`,
      'failed to parse SPI: the first argument of the IPsec secret is not a number. Attempted "3+"',
      'line 1, field 1',
    ],
    [
      `16 rfc4106(gcm(aes)) ${K20} 128`,
      'failed to parse SPI: encryption key space exhausted. ID must be nonzero and less than 16. Attempted "16"',
      'line 1, field 1',
    ],
    [
      `0 rfc4106(gcm(aes)) ${K20} 128`,
      'failed to parse SPI: zero is not a valid key ID. ID must be nonzero and less than 16. Attempted "0"',
      'line 1, field 1',
    ],
    [
      `-3 rfc4106(gcm(aes)) ${K20} 128`,
      'failed to parse SPI: a key ID is not negative. ID must be nonzero and less than 16. Attempted "-3"',
      'line 1, field 1',
    ],
    [`3 rfc4106(gcm(aes)) ${K20} 128 1 2`, 'invalid format: too many fields in the IPsec secret', 'line 1, field 6'],
    [`3 hmac(sha256) ${K20} 128`, 'invalid AEAD algorithm "hmac(sha256)"', 'line 1, field 2'],
    [`3 ${K20} rfc4106(gcm(aes)) 128`, 'invalid AEAD algorithm "…" (40 characters, not shown)', 'line 1, field 2'],
    [
      `3 rfc4106(gcm(aes)) ${K20}f 128`,
      'unable to decode AEAD key string (41 characters, not shown)',
      'line 1, field 3',
    ],
    [`3 rfc4106(gcm(aes)) 0x 128`, 'unable to decode AEAD key string (2 characters, not shown)', 'line 1, field 3'],
    [`3 rfc4106(gcm(aes)) ${K20}`, 'ICV length is invalid or missing', 'line 1, field 4'],
    [`3 rfc4106(gcm(aes)) ${K20} 12b`, 'ICV length is invalid or missing', 'line 1, field 4'],
    [`3 rfc4106(gcm(aes)) ${K20} 64`, 'only ICV lengths 96, 128, and 256 are accepted', 'line 1, field 4'],
    [
      `3 rfc4106(gcm(aes)) ${K20} 256`,
      'ICV length is invalid: rfc4106(gcm(aes)) has ICVs of 96 or 128 bits, not 256',
      'line 1, field 4',
    ],
    [
      `3 rfc7539esp(chacha20,poly1305) ${K36} 96`,
      'ICV length is invalid: rfc7539esp(chacha20,poly1305) has ICVs of 128 bits, not 96',
      'line 1, field 4',
    ],
    [
      `3 rfc4106(gcm(aes)) ${K16} 128`,
      'invalid key length: rfc4106(gcm(aes)) takes keys of 160, 224 or 288 bits, the last 32 of them salt; this one has 128',
      'line 1, field 3',
    ],
    [
      `3 rfc7539esp(chacha20,poly1305) ${K32} 128`,
      'invalid key length: rfc7539esp(chacha20,poly1305) takes keys of 288 bits, the last 32 of them salt; this one has 256',
      'line 1, field 3',
    ],
    [
      `3 hmac(sha256) xyz cbc(aes) ${K16}`,
      'unable to decode authentication key string (3 characters, not shown)',
      'line 1, field 3',
    ],
    [
      `3 hmac(sha256) ${K32} cbc(aes) ${K16}0`,
      'unable to decode encryption key string (33 characters, not shown)',
      'line 1, field 5',
    ],
    [
      `3 hmac(sha256) ${K32} cbc(aes) ${K20}`,
      'invalid key length: cbc(aes) takes keys of 128, 192 or 256 bits; this one has 160',
      'line 1, field 5',
    ],
    [
      `3 hmac(sha512) ${K32.repeat(3)} cbc(aes) ${K16}`,
      'invalid key length: a key has at most 512 bits; this one has 768',
      'line 1, field 3',
    ],
    [
      `3 ${K32} hmac(sha256) cbc(aes) ${K16}`,
      'invalid authentication algorithm "…" (64 characters, not shown)',
      'line 1, field 2',
    ],
    [
      `3 hmac(sha256) ${K32} ${K16} cbc(aes)`,
      'invalid encryption algorithm "…" (32 characters, not shown)',
      'line 1, field 4',
    ],
    [`3 hmac(sha256) ${K32} cipher_null ""`, 'cipher_null encrypts nothing', 'line 1, field 4'],
    [`3 rfc4543(gcm(aes)) ${K20} 128`, 'rfc4543(gcm(aes)) encrypts nothing', 'line 1, field 2'],
    [
      `3 rfc4106(gcm(aes)) ${K20} 128\n3 rfc4106(gcm(aes)) ${K36} 128`,
      'invalid SPI: changing IPSec keys requires incrementing the key id',
      'line 2, field 1',
    ],
  ] as const) {
    const error = errorOf(text)
    assert.equal(error.message, message)
    assert.equal(error.field, field, message)
    assert.ok(error.remedy !== undefined && error.code.startsWith('ipsec.key.'))
  }
})

test('weak keys are refused with the reason', () => {
  for (const [key, reason] of [
    ['00'.repeat(20), 'all its bytes are equal'],
    [`${'00'.repeat(16)}5a1b93c7`, 'all its bytes are equal'], // a salt does not help
    ['000102030405060708090a0b0c0d0e0f10111213', 'it counts up or down by equal steps'],
    ['131211100f0e0d0c0b0a09080706050403020100', 'it counts up or down by equal steps'],
    ['0123456789abcdef0123456789abcdef01234567', 'it repeats 8 bytes'],
    ['f0f3f6f9fcff0205080b0e1114171a1d20232629', 'it counts up or down by equal steps'],
    ['deadbeef'.repeat(5), 'it repeats 4 bytes'],
    ['1234567890'.repeat(4), 'it repeats 5 bytes'],
    [`${'00'.repeat(15)}01f3c2d4a5`, 'it has only 2 different bytes'],
  ] as const) {
    const error = errorOf(`3 rfc4106(gcm(aes)) ${key} 128`)
    assert.equal(error.code, 'ipsec.key.weak')
    assert.equal(error.message, `the encryption key is weak: ${reason}`, key)
  }
  for (const [text, reason] of [
    [
      `3 hmac(sha256) ${K16.slice(2)} cbc(aes) ${K16}`,
      'the authentication key is weak: it has 120 bits, fewer than 128',
    ],
    [`3 hmac(sha256) ${'ab'.repeat(32)} cbc(aes) ${K16}`, 'the authentication key is weak: all its bytes are equal'],
    [`3 digest_null "" cbc(aes) ${K16}`, 'the authentication key is weak: it has 0 bits, fewer than 128'],
    [
      `3 rfc4309(ccm(aes)) "" 128`,
      'invalid key length: rfc4309(ccm(aes)) takes keys of 152, 216 or 280 bits, the last 24 of them salt; this one has 0',
    ],
  ] as const) {
    assert.equal(errorOf(text).message, reason)
  }
})

test('a new key that somebody can guess is refused, one that is in use is not', () => {
  const text = (hex: string) => `3 rfc4106(gcm(aes)) ${hex} 128`
  const hexOf = (words: string) => toHex(new TextEncoder().encode(words))
  const counting = 'it counts up or down by equal steps, but for a few'
  const isText = 'it is text, each byte a printable character'
  for (const [hex, reason] of [
    ['112233445566778899aabbccddeeff0011223344', counting],
    ['00112233445566778899aabbccddee1f01020304', counting],
    ['44332211ffeeddccbbaa998877665544332211ff', counting],
    [hexOf('correct horse battery'.slice(0, 20)), isText],
    [`${hexOf('my-secret-ipsec-key!').slice(0, 32)}e91c7a26`, isText],
    [hexOf('8f3a91c2d47e05b6617f'), isText],
  ] as const) {
    const keys = parse(text(hex))
    const fault = refuseWeak(keys, [])
    assert.deepEqual([fault?.code, fault?.message], ['ipsec.key.weak', `the encryption key is weak: ${reason}`], hex)
    assert.equal(refuseWeak(keys, keys), undefined)
  }
  const two = `3 hmac(sha256) ${hexOf('0123456789abcdefghijklmnopqrstuv')} cbc(aes) 8f3a91c2d47e05b6617f2ec9a0d35b84`
  const fault = refuseWeak(parse(two), [])
  assert.match(fault?.message ?? '', /^the authentication key is weak/)
  for (const hex of ['8f3a91c2d47e05b6617f2ec9a0d35b84e91c7a26', K36])
    assert.equal(refuseWeak(parse(text(hex)), []), undefined)
  // what is generated is never what is refused
  let first = true
  const entropy = (count: number) => {
    const bytes = first ? new Uint8Array(count).fill(0x41, 0, 16) : Uint8Array.fromHex(K36).subarray(0, count)
    first = false
    return bytes
  }
  assert.equal(refuseWeak(parse(newKeyText('rfc4106-gcm-aes', entropy)), []), undefined)
})

test("a guide's printed key is taken, with a warning", () => {
  const [key] = parse('3 rfc4106(gcm(aes)) da630c6acdbef2757ab7f5215b8b1811420e3f61 128')
  assert.match(keyWarnings(key!).join(), /printed in a public guide/)
  assert.deepEqual(keyWarnings(parse(`3 rfc4106(gcm(aes)) ${K20} 128`)[0]!), [])
  assert.match(keyWarnings(parse(`3 hmac(sha256) ${K16} cbc(aes) ${K16}`)[0]!).join(), /same key/)
})

test('random keys are not found weak', () => {
  const random = fc.uint8Array({ minLength: 20, maxLength: 20 })
  // fast-check likes edge cases; a hash of them is as good as random
  fc.assert(
    fc.property(random, (seed) => {
      parse(`3 rfc4106(gcm(aes)) ${toHex(ipsecHash.sha256(seed).subarray(0, 20))} 128`)
    }),
    { seed: 41, numRuns: 2000 },
  )
})

test('no error repeats six characters of what could be a key', () => {
  const key = fc.uint8Array({ minLength: 8, maxLength: 40 }).map((seed) => toHex(ipsecHash.sha256(seed)))
  const secret = fc.oneof(
    key,
    key.map((hex) => hex.slice(0, 39)),
    key.map((hex) => `0x${hex}`),
    key.map((hex) => Buffer.from(hex, 'hex').toString('base64')),
    key.map((hex) => Buffer.from(hex, 'hex').toString('base64url')),
    key.map((hex) => hex.replace(/../g, '$& ').trim()),
    key.map((hex) => hex.replace(/.{8}/g, '$& ').trim()),
  )
  const word = fc.constantFrom('3', '3+', '-1', '17', 'rfc4106(gcm(aes))', 'hmac(sha256)', 'cbc(aes)', '128', 'x', '\n')
  const text = fc.tuple(secret, fc.array(word, { maxLength: 3 }), fc.array(word, { maxLength: 3 }))
  fc.assert(
    fc.property(text, ([hidden, before, after]) => {
      const parsed = parseKeyTexts([...before, hidden, ...after].join(' '), ipsecHash)
      if (parsed.ok) return
      const said = `${describeFault(parsed.error)} ${parsed.error.field} ${parsed.error.stack}`
      const known = 'Write ID[+] ALGORITHM HEX-KEY ICV-BITS rfc4106 gcm aes 128'
      for (const part of hidden.split(' ')) {
        for (let at = 0; at + 6 <= part.length; at++) {
          const piece = part.slice(at, at + 6)
          if (!known.includes(piece)) assert.ok(!said.includes(piece), `${piece} in: ${said}`)
        }
      }
    }),
    { seed: 42, numRuns: 3000 },
  )
})

test('any text gives keys or a fault', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', maxLength: 80 }),
      fc.array(fc.string(), { maxLength: 7 }),
      (text, words) => {
        for (const each of [text, words.join(' '), `3 ${words.join(' ')}`]) {
          const parsed = parseKeyTexts(each, ipsecHash)
          if (!parsed.ok) assert.ok(parsed.error instanceof Fault)
        }
      },
    ),
    { seed: 43, numRuns: 1000 },
  )
  // a word that every object has
  const named = parseKeyTexts(`3 hmac(sha256) ${K20} constructor ${K20.split('').toReversed().join('')}`, ipsecHash)
  assert.equal(named.ok && named.value[0]?.encryptionAlgorithm, 'constructor')
})

test('a fingerprint names algorithm, ICV and keys, and not the id', () => {
  const one = (text: string) => parse(text)[0]!.fingerprint
  const same = one(`3 rfc4106(gcm(aes)) ${K20} 128`)
  assert.match(same, /^[0-9a-f]{16}$/)
  assert.equal(one(`4+ rfc4106(gcm(aes)) 0x${K20} 128`), same)
  const others = [
    `3 rfc4106(gcm(aes)) ${K20} 96`,
    `3 rfc4106(gcm(aes)) ${K36} 128`,
    `3 rfc7539esp(chacha20,poly1305) ${K36} 128`,
    `3 hmac(sha256) ${K16} cbc(aes) ${K32}`,
    `3 hmac(sha256) ${K32} cbc(aes) ${K16}`,
    `3 hmac(sha512) ${K32} cbc(aes) ${K16}`,
  ].map(one)
  assert.equal(new Set([same, ...others]).size, 7)
})

test('userspace says what it has', () => {
  const of = (text: string) => supportedInUserspace(parse(text)[0]!)
  assert.deepEqual(of(`3 rfc4106(gcm(aes)) ${K36} 96`), { supported: true, algorithm: 'aes-gcm' })
  assert.deepEqual(of(`3 rfc7539esp(chacha20,poly1305) ${K36} 128`), {
    supported: true,
    algorithm: 'chacha20-poly1305',
  })
  for (const bits of [256, 384, 512]) {
    assert.deepEqual(of(`3 hmac(sha${bits}) ${K32} cbc(aes) ${K16}`), {
      supported: true,
      algorithm: `aes-cbc-hmac-sha${bits}`,
    })
  }
  for (const [text, missing] of [
    [`3 hmac(sha1) ${K20} cbc(aes) ${K16}`, /no hmac\(sha1\),cbc\(aes\) with an ICV of 96 bits/],
    [`3 cmac(aes) ${K16} cbc(camellia) ${K16}`, /no cmac\(aes\),cbc\(camellia\)/],
    [`3 rfc4309(ccm(aes)) ${K16}aabbcc 128`, /no rfc4309\(ccm\(aes\)\)/],
    [`3 rfc9999(new(thing)) ${K20} 256`, /no rfc9999\(new\(thing\)\)/],
  ] as const) {
    const support = of(text)
    assert.ok(!support.supported)
    assert.match(support.missing, missing)
    assert.match(support.remedy, /rfc4106\(gcm\(aes\)\).*rfc7539esp.*hmac\(sha256\)/)
  }
})

test('the next text keeps form, lengths and +, and has the next id', () => {
  let calls = 0
  const random = (bytes: number) => ipsecHash.sha512(Uint8Array.of(calls++)).slice(0, bytes)
  for (const [text, id, plus] of [
    [`3 rfc4106(gcm(aes)) ${K20} 128`, 4, false],
    [`15+ rfc4106(gcm(aes)) ${K36} 96\n`, 1, true],
    [`14 hmac(sha512) ${K32} cbc(aes) ${K16}`, 15, false],
    [`1+ rfc4106(gcm(aes)) ${K36} 96\n2 rfc4106(gcm(aes)) ${K20} 128`, 3, false],
  ] as const) {
    const next = unwrap(nextKeyText(text, random, ipsecHash))
    const [before, after] = [parse(text).at(-1)!, parse(next)[0]!]
    assert.equal(after.id, id)
    assert.equal(hasPlus(next), plus)
    assert.notEqual(after.fingerprint, before.fingerprint)
    assert.equal(after.encryptionKey.length, before.encryptionKey.length)
    assert.equal(after.authenticationKey.length, before.authenticationKey.length)
    assert.equal(after.icvBytes, before.icvBytes)
    assert.equal(formatKeyText(after, plus), next)
  }
  assert.equal(nextKeyText('3', random, ipsecHash).ok, false)
  const after = (id: number, taken: number[]) =>
    parse(unwrap(nextKeyText(`${id} rfc4106(gcm(aes)) ${K20} 128`, random, ipsecHash, taken)))[0]?.id
  assert.deepEqual([after(3, [4]), after(14, [15, 1]), after(15, [])], [5, 2, 1], 'ids that are held are left out')
})

test("a first text is cilium-cli's", () => {
  const random = (bytes: number) => ipsecHash.sha512(Uint8Array.of(bytes)).slice(0, bytes)
  const shapes = NEW_KEY_ALGORITHMS.map((algorithm) => {
    const text = newKeyText(algorithm, random)
    parse(text)
    return text.replace(/[0-9a-f]{32,}/g, (hex) => `<${hex.length}>`)
  })
  assert.deepEqual(shapes, [
    '1 rfc4106(gcm(aes)) <40> 128',
    '1 hmac(sha256) <32> cbc(aes) <32>',
    '1 hmac(sha512) <64> cbc(aes) <32>',
  ])
  assert.match(newKeyText('rfc4106-gcm-aes', random, 7, true), /^7\+ /)
})
