/** The datapath contract against the real supervisor, keeper and engine, in a network namespace of its own. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { closeSync, existsSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { UserspaceDatapath } from '#io/userspace/datapath.ts'
import { missingForTunnels } from '#test/kit/tunnel-lab.ts'
import { datapathContract } from './datapath.ts'
import { deviceOf, KEYS, peer, settings } from './ipsec-datapath.ts'

const NAMESPACE = 'pa-contract'
const ENGINE = process.env['PELLICLE_ENGINE'] ?? 'engine/target/release/pellicle-engine'

let count = 0

async function start(...more: string[]) {
  const missing = missingForTunnels()
  if (missing !== undefined) return missing
  if (!existsSync(ENGINE)) return 'needs the engine (cargo build --release in engine/)'
  const folder = mkdtempSync(join(tmpdir(), 'pa-contract-'))
  removeNamespace()
  execFileSync('ip', ['netns', 'add', NAMESPACE])
  execFileSync('ip', ['-n', NAMESPACE, 'link', 'set', 'lo', 'up'])
  const keeper = `${process.execPath} ${process.cwd()}/apps/keeper/main.ts`
  const controlFolder = join(folder, 'wireguard')
  const args = ['supervise', '--run-dir', folder, '--uapi-dir', controlFolder, '--keeper-command', keeper, ...more]
  const supervisor = spawn('ip', ['netns', 'exec', NAMESPACE, ENGINE, ...args], { stdio: 'ignore' })
  const datapath = new UserspaceDatapath({ supervisorSocket: join(folder, 'supervisor.sock'), controlFolder })
  const end = async () => {
    await ended(supervisor)
    removeNamespace()
    rmSync(folder, { recursive: true, force: true })
  }
  // a second or so; ended by force when the supervisor is gone
  while (!(await datapath.probe()).usable) {
    if (supervisor.exitCode !== null) {
      await end()
      throw new Error(`the supervisor ended with ${supervisor.exitCode}`)
    }
    await sleep(10)
  }
  return { datapath, device: `pact${++count}`, end, folder }
}

datapathContract('userspace, with the real supervisor, keeper and engine', () => start())

const FILES = 'a removed device leaves no file, and no copy of its private key was left open to read'
test(FILES, { timeout: 300_000 }, async (t) => {
  const under = await start()
  if (typeof under === 'string') return t.skip(under)
  const { datapath, device, folder, end } = under
  try {
    const privateKey = new Uint8Array(32).fill(0x50)
    await datapath.apply({ name: device, privateKey, listenPort: 51899, mark: 0xe00, mtu: 1420, peers: [] })
    const config = openSync(join(folder, device, 'config'), 'r')
    const content = () => {
      const bytes = Buffer.alloc(4096)
      return bytes.subarray(0, readSync(config, bytes, 0, bytes.length, 0)).toString('latin1')
    }
    try {
      assert.ok(content().includes('50'.repeat(32)))
      await datapath.remove(device)
      assert.match(content(), /^\0+$/)
      assert.ok(!existsSync(join(folder, device)))
    } finally {
      closeSync(config)
    }
  } finally {
    await end()
  }
})

const RENEWED =
  'ipsec: however often another node begins anew, the engine has room for its keys, and no key comes twice'
test(RENEWED, { timeout: 60_000 }, async (t) => {
  // room for 64 keys
  const under = await start('--max-peers', '2')
  if (typeof under === 'string') return t.skip(under)
  const { datapath, device, end } = under
  const [key] = KEYS
  try {
    const bootIds = new Set<string>()
    const seen = new Map<string, string>()
    for (let boot = 0; boot < 80; boot++) {
      const { bootId } = await datapath.openIpsec(settings(device))
      bootIds.add(bootId)
      const theirs = `44444444-4444-4444-8444-${boot.toString(16).padStart(12, '0')}`
      await datapath.applyIpsec(deviceOf(device, bootId, [{ ...peer(1, [key], key), bootId: theirs }]))
      for (const { fingerprint } of (await datapath.observeIpsec(device))?.associations ?? []) {
        assert.equal(seen.get(fingerprint) ?? theirs, theirs)
        seen.set(fingerprint, theirs)
      }
    }
    assert.ok(bootIds.size > 2 && bootIds.size < 6, `${bootIds.size}`)
  } finally {
    await datapath.close()
    await end()
  }
})

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return
  const exit = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  const force = setTimeout(() => child.kill('SIGKILL'), 5000)
  await exit
  clearTimeout(force)
}

function removeNamespace(): void {
  try {
    execFileSync('ip', ['netns', 'del', NAMESPACE], { stdio: 'ignore' })
  } catch {
    // it was not there
  }
}
