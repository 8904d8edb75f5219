import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { lowerInotify, makeRoomForInotify } from './inotify.ts'

test('the limit is raised once or twice, and what was there comes back', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pellicle-inotify-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'limit')
  const limit = () => Number(readFileSync(file, 'utf8'))
  writeFileSync(file, '128\n')
  assert.match(makeRoomForInotify(20, folder, file) ?? '', /raised from 128 to /)
  const once = limit()
  assert.equal(makeRoomForInotify(1, folder, file), undefined)
  assert.match(makeRoomForInotify(once, folder, file) ?? '', /raised from/)
  assert.ok(limit() > once)
  lowerInotify(folder, file)
  assert.equal(limit(), 128)
  assert.deepEqual(readdirSync(folder), ['limit'])
  lowerInotify(folder, file)
  assert.equal(limit(), 128)
})

test('what somebody else has set meanwhile stays', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pellicle-inotify-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'limit')
  writeFileSync(file, '128\n')
  makeRoomForInotify(20, folder, file)
  writeFileSync(file, '100000\n')
  lowerInotify(folder, file)
  assert.equal(readFileSync(file, 'utf8'), '100000\n')
})
