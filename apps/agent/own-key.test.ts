import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Fault } from '#core/fault/fault.ts'
import { loadOwnKey } from './own-key.ts'

let folder: string
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pa-key-'))
})
after(() => rm(folder, { recursive: true }))

test('the key pair is made once and kept', async () => {
  const path = join(folder, 'state/cilium_wg0.key')
  const made = await loadOwnKey(path)
  assert.equal((await stat(path)).mode & 0o777, 0o600)
  assert.equal((await readFile(path)).length, 32)
  assert.deepEqual(await loadOwnKey(path), made)
})

test('the public key is what wg says', async (t) => {
  const key = await loadOwnKey(join(folder, 'wg.key'))
  const wg = spawnSync('wg', ['pubkey'], { input: Buffer.from(key.privateKey).toString('base64') })
  if (wg.error !== undefined) return t.skip('needs wg (wireguard-tools)')
  assert.equal(wg.stdout.toString().trim(), key.publicKey)
})

test('the key pair of RFC 7748 section 6.1', async () => {
  const path = join(folder, 'alice')
  await writeFile(path, Buffer.from('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a', 'hex'), {
    mode: 0o600,
  })
  const { publicKey } = await loadOwnKey(path)
  assert.equal(
    Buffer.from(publicKey, 'base64').toString('hex'),
    '8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a',
  )
})

test('a file that is not right is never replaced, and the error says what to do', async () => {
  const cases = [
    { name: 'long', bytes: Buffer.alloc(33, 7), mode: 0o600, code: 'key.length' },
    { name: 'empty', bytes: Buffer.alloc(0), mode: 0o600, code: 'key.length' },
    { name: 'zero', bytes: Buffer.alloc(32), mode: 0o600, code: 'key.zero' },
    { name: 'open', bytes: Buffer.alloc(32, 7), mode: 0o644, code: 'key.mode' },
  ]
  for (const { name, bytes, mode, code } of cases) {
    const path = join(folder, name)
    await writeFile(path, bytes)
    await chmod(path, mode)
    await assert.rejects(loadOwnKey(path), (error) => {
      assert.ok(error instanceof Fault)
      assert.equal(error.code, code)
      assert.ok(error.remedy?.includes(path))
      return true
    })
    assert.deepEqual(await readFile(path), bytes)
  }
})
