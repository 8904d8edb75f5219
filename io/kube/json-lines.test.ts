import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { hasCode } from './errors.ts'
import { jsonLines } from './json-lines.ts'
import { readEvent } from './watch.ts'

async function* pieces(...texts: readonly (string | Uint8Array)[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield typeof text === 'string' ? Buffer.from(text) : text
}

async function all(chunks: AsyncIterable<Uint8Array>): Promise<unknown[]> {
  return await Array.fromAsync(jsonLines(chunks))
}

test('lines come out whole however the bytes were cut', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.jsonValue(), { maxLength: 8 }),
      fc.array(fc.nat(400), { maxLength: 12 }),
      async (values, cuts) => {
        const bytes = Buffer.from(values.map((value) => `${JSON.stringify(value)}\n`).join(''))
        const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length]
        const parts = at.slice(1).map((end, i) => bytes.subarray(at[i], end))
        assert.deepEqual(await all(pieces(...parts)), JSON.parse(JSON.stringify(values)))
      },
    ),
    { seed: 4, numRuns: 300 },
  )
})

test('a character cut in two is put together again', async () => {
  const bytes = Buffer.from('{"a":"Wimpertierchen – ß"}\n')
  const at = bytes.indexOf(Buffer.from('ß')) + 1
  assert.deepEqual(await all(pieces(bytes.subarray(0, at), bytes.subarray(at))), [{ a: 'Wimpertierchen – ß' }])
})

test('empty lines count as nothing, half a last line neither, a whole one does', async () => {
  assert.deepEqual(await all(pieces('\n{"a":1}\r\n\n{"b":')), [{ a: 1 }])
  assert.deepEqual(await all(pieces('{"a":1}\n{"b":2}')), [{ a: 1 }, { b: 2 }])
})

test('a garbled line is a fault, not silence', async () => {
  await assert.rejects(all(pieces('{"a":1}\n{"b":\n{"c":3}\n')), (error) => hasCode(error, 'kube.protocol'))
})

test('a line without end is given up', async () => {
  async function* endless(): AsyncGenerator<Uint8Array> {
    const block = new Uint8Array(1024 * 1024).fill(120)
    for (;;) yield block
  }
  await assert.rejects(all(endless()), (error) => hasCode(error, 'kube.protocol'))
})

test('events as the API server sends them', () => {
  const added = readEvent('watch nodes', { type: 'ADDED', object: { metadata: { name: 'a', resourceVersion: '7' } } })
  assert.equal(added.type, 'ADDED')
  // recorded from kube-apiserver 1.34
  const end = readEvent('watch nodes', {
    type: 'BOOKMARK',
    object: {
      kind: 'Node',
      apiVersion: 'v1',
      metadata: { resourceVersion: '197', annotations: { 'k8s.io/initial-events-end': 'true' } },
      spec: {},
    },
  })
  assert.deepEqual(end, { type: 'BOOKMARK', resourceVersion: '197', initialEnd: true })
})

test('an ERROR event becomes the fault that it tells of', () => {
  const line = {
    type: 'ERROR',
    object: {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: 'too old resource version: 1 (205)',
      reason: 'Expired',
      code: 410,
    },
  }
  assert.throws(
    () => readEvent('watch nodes', line),
    (error) => hasCode(error, 'kube.expired') && /too old resource version/.test(String(error)),
  )
})

for (const line of [
  null,
  7,
  [],
  {},
  { type: 'ADDED' },
  { type: 'ADDED', object: {} },
  { type: 'NEW', object: { metadata: {} } },
]) {
  test(`${JSON.stringify(line)} is no event`, () => {
    assert.throws(
      () => readEvent('watch nodes', line),
      (error) => hasCode(error, 'kube.protocol'),
    )
  })
}
