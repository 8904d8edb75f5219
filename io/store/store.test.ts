import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { z } from 'zod'
import { Fault } from '#core/fault/fault.ts'
import { readSmallFile, removeFile, writeFileAtomic } from './file.ts'
import { JsonFile } from './json-file.ts'

let folder: string
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pa-store-'))
})
after(() => rm(folder, { recursive: true }))

test('a file is replaced whole, with its mode, and nothing is left beside it', async () => {
  const path = join(folder, 'a/key')
  await writeFileAtomic(path, 'one')
  await writeFileAtomic(path, 'two')
  assert.equal(await readFile(path, 'utf8'), 'two')
  assert.equal((await stat(path)).mode & 0o777, 0o600)
  assert.deepEqual(await readdir(join(folder, 'a')), ['key'])
})

test('a missing file is undefined, removing it again is fine', async () => {
  const path = join(folder, 'b')
  assert.equal(await readSmallFile(path), undefined)
  await writeFileAtomic(path, '')
  await removeFile(path)
  await removeFile(path)
  assert.equal(await readSmallFile(path), undefined)
})

test('a full or read-only disk says so, keeps the old content and leaves no draft', async (t) => {
  // a tmpfs of one page is the smallest full disk
  const { spawnSync } = await import('node:child_process')
  const disk = await mkdtemp(join(tmpdir(), 'pa-full-'))
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=8k', 'pa-full', disk]).status !== 0) {
    await rm(disk, { recursive: true })
    t.skip('needs root to mount a tmpfs')
    return
  }
  try {
    const path = join(disk, 'state')
    await writeFileAtomic(path, 'old')
    await assert.rejects(writeFileAtomic(path, 'x'.repeat(20_000)), (error) => {
      assert.ok(error instanceof Fault)
      assert.equal(error.code, 'store.full')
      assert.match(error.remedy ?? '', /Free some space/)
      return true
    })
    assert.equal(await readFile(path, 'utf8'), 'old')
    assert.deepEqual(await readdir(disk), ['state'])
    assert.equal(spawnSync('mount', ['-o', 'remount,ro', disk]).status, 0)
    await assert.rejects(writeFileAtomic(path, 'new'), (error) => {
      assert.ok(error instanceof Fault)
      assert.equal(error.code, 'store.read-only')
      assert.match(error.message, /its file system is read-only/)
      return true
    })
    assert.equal(await readFile(path, 'utf8'), 'old')
  } finally {
    spawnSync('umount', [disk])
    await rm(disk, { recursive: true })
  }
})

test('a damaged JSON file is an error with its name, not an empty value', async () => {
  const file = new JsonFile(join(folder, 'c.json'), z.object({ level: z.int() }))
  assert.equal(await file.read(), undefined)
  await file.write({ level: 2 })
  assert.deepEqual(await file.read(), { level: 2 })
  for (const text of ['', '{"level":', '{"level":"two"}', '\xff']) {
    await writeFile(file.path, text)
    await assert.rejects(file.read(), (error) => error instanceof Fault && error.code === 'store.damaged')
  }
})
