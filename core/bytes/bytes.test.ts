import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Fault } from '#core/fault/fault.ts'
import { Reader } from './reader.ts'
import { equalBytes, fromBase64, fromHex, toBase64, toHex } from './text.ts'
import { Writer } from './writer.ts'

test('what the writer wrote the reader reads, across growth', () => {
  const writer = new Writer(1).u8(1).u16be(0x0203).u16le(0x0302).u32be(7).u32le(8).i32le(-9).u64be(10n).u64le(11n)
  writer.put(Uint8Array.of(1, 2, 3)).align(4)
  writer.patchU16le(3, 0x0504)
  const reader = new Reader(writer.finish())
  assert.deepEqual(
    [
      reader.u8(),
      reader.u16be(),
      reader.u16le(),
      reader.u32be(),
      reader.u32le(),
      reader.i32le(),
      reader.u64be(),
      reader.u64le(),
    ],
    [1, 0x0203, 0x0504, 7, 8, -9, 10n, 11n],
  )
  assert.deepEqual([...reader.take(3)], [1, 2, 3])
  assert.equal(reader.remaining, (4 - ((33 + 3) % 4)) % 4)
  assert.throws(() => writer.patchU32le(writer.length - 3, 1), TypeError)
})

test('bytes that make the buffer grow are put into the new one', () => {
  assert.deepEqual(
    [
      ...new Writer(2)
        .u8(9)
        .put(Uint8Array.of(1, 2, 3))
        .finish(),
    ],
    [9, 1, 2, 3],
  )
})

test('an overrun names the offset', () => {
  const reader = new Reader(Uint8Array.of(1, 2, 3))
  reader.skip(2)
  assert.throws(
    () => reader.u16le(),
    (e) => e instanceof Fault && e.code === 'bytes.short' && e.message === 'needs 2 bytes at offset 2, has 1',
  )
})

test('hex and base64 take only the strict form', () => {
  assert.equal(toHex(fromHex('00fF10')!), '00ff10')
  assert.equal(toBase64(fromBase64('AAECAw==')!), 'AAECAw==')
  for (const text of ['0', '0x00', 'zz', ' 00']) assert.equal(fromHex(text), undefined)
  for (const text of ['AAE', 'AAECAw=', 'AAE\n', 'AAECAx==', '-_==']) assert.equal(fromBase64(text), undefined, text)
})

test('equal bytes are equal only in full', () => {
  assert.ok(equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 2)))
  assert.ok(!equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 3)))
  assert.ok(!equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 2, 3)))
})
