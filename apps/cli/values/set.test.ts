import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { applySet, mergeValues, type Values, valueAt, withValueAt } from './set.ts'

function set(...texts: string[]): Values {
  const values: Values = {}
  for (const text of texts) applySet(values, text)
  return values
}

// What Helm's own strvals gives for the same texts (helm template --set … with a template that prints .Values).
for (const [text, expected] of [
  ['encryption.enabled=true', { encryption: { enabled: true } }],
  ['a=1,b=x', { a: 1, b: 'x' }],
  ['a=', { a: '' }],
  ['a=null', { a: null }],
  ['a=007', { a: '007' }],
  ['a=1.5', { a: '1.5' }],
  ['a=-3', { a: -3 }],
  ['a=1e3', { a: '1e3' }],
  ['a={x,2,true}', { a: ['x', 2, true] }],
  ['a={}', { a: [] }],
  ['a=x\\,y', { a: 'x,y' }],
  ['a\\.b=c', { 'a.b': 'c' }],
  ['a.b=c=d', { a: { b: 'c=d' } }],
  ['t[0].operator=Exists,t[0].key=k', { t: [{ operator: 'Exists', key: 'k' }] }],
  ['a[0][0]=1', { a: [[1]] }],
] as const) {
  test(`--set ${text}`, () => assert.deepEqual(set(text), expected))
}

test('strings stay strings with --set-string', () => {
  const values: Values = {}
  applySet(values, 'a=true,b=1,c=null', true)
  assert.deepEqual(values, { a: 'true', b: '1', c: 'null' })
})

test('later ones win, maps are kept', () => {
  assert.deepEqual(set('a.b=1', 'a.c=2', 'a.b=3'), { a: { b: 3, c: 2 } })
})

for (const [text, expected] of [
  ['encryption.enabled', /"encryption.enabled" has no value/],
  ['=true', /name is missing/],
  ['a..b=1', /name is missing/],
  ['a={x,y', /not closed/],
  ['a={x}y=1', /comma/],
  ['a[x]=1', /number/],
  ['a=1,a.b=2', /a has a value already that is no map/],
  ['a[2]=1', /a\[0\] is missing/],
  ['__proto__.x=1', /no name/],
] as const) {
  test(`--set ${text} is refused`, () => assert.throws(() => set(text), expected))
}

test('no text gives anything but values or a fault, and Object.prototype stays', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('a', 'b', '.', '[', ']', '=', '{', '}', ',', '\\', '0', '1') }),
      (text) => {
        try {
          set(text)
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'values.set')
        }
        assert.equal(({} as Record<string, unknown>)['a'], undefined)
      },
    ),
    { seed: 3, numRuns: 2000 },
  )
})

test('merging changes neither side', () => {
  const under = { a: { b: 1, c: [1] }, d: 1 }
  const over = { a: { b: 2, c: [2] }, e: null }
  assert.deepEqual(mergeValues(under, over), { a: { b: 2, c: [2] }, d: 1, e: null })
  assert.deepEqual(under, { a: { b: 1, c: [1] }, d: 1 })
})

test('a value is found and put by its path', () => {
  const values = withValueAt({ a: { b: 1 } }, 'a.c.d', 'x')
  assert.deepEqual(values, { a: { b: 1, c: { d: 'x' } } })
  assert.equal(valueAt(values, 'a.c.d'), 'x')
  assert.equal(valueAt(values, 'a.x.d'), undefined)
  assert.equal(valueAt(values, 'constructor'), undefined)
})
