import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { SpentKeys } from './spent-keys.ts'

const folder = mkdtempSync(join(tmpdir(), 'pk-spent-'))
after(() => rmSync(folder, { recursive: true }))
const BOOT = '11111111-1111-4111-8111-111111111111'
const [A, B] = ['aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb']
let count = 0
const path = () => join(folder, 'sub', `${++count}.keys`)

test('what was noted is known to the next process; the last word counts', () => {
  const file = path()
  const keys = new SpentKeys(file)
  assert.equal(keys.bootId, undefined)
  keys.begin(BOOT)
  keys.note([
    [A, 'used'],
    [B, 'used'],
  ])
  keys.note([[A, 1234n]])
  const again = new SpentKeys(file)
  assert.equal(again.bootId, BOOT)
  assert.deepEqual([again.get(A), again.get(B), again.get('c')], [1234n, 'used', undefined])
  const before = readFileSync(file, 'utf8')
  again.note([[A, 1234n]])
  assert.equal(readFileSync(file, 'utf8'), before)
})

test('a torn file, another file or none: nothing is known, so another boot id is needed', () => {
  for (const text of [`boot ${BOOT}\n${A} us`, `boot ${BOOT}\n${A} 12`, 'something else', '']) {
    const file = path()
    new SpentKeys(file).begin(BOOT)
    writeFileSync(file, text)
    assert.equal(new SpentKeys(file).bootId, undefined, text)
  }
  const file = path()
  const keys = new SpentKeys(file)
  keys.begin(BOOT)
  keys.forget()
  assert.equal(keys.bootId, undefined)
  assert.equal(new SpentKeys(file).bootId, undefined)
})

test('what cannot be written is said before anything is sent by it', () => {
  writeFileSync(join(folder, 'plain'), '')
  const keys = new SpentKeys(join(folder, 'plain', 'file'))
  assert.throws(() => keys.begin(BOOT), { code: 'store.write' })
})
