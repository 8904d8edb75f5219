import assert from 'node:assert/strict'
import { type ChildProcess, execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { promisify } from 'node:util'
import { exchange } from '#io/userspace/line-socket.ts'
import { eventually } from '#test/kit/lab.ts'
import { engineProgram, missingForTunnels, TunnelLab } from '#test/kit/tunnel-lab.ts'

/*
 *   pwk-a                                      pwk-b
 *   supervisor, engine, keeper                 supervisor, engine, keeper
 *   pwkwga 10.9.0.1 fd09::1   ═══ WireGuard ═══   pwkwgb 10.9.0.2 fd09::2
 *   pwkva 192.0.2.1 2001:db8::1 ──── veth ──── pwkvb 192.0.2.2 2001:db8::2
 */
const exec = promisify(execFile)
const skip = missingForTunnels('ping', 'iperf3', 'ss') ?? false

suite('two userspace devices, configured by the real wg', { skip, concurrency: 1 }, () => {
  let lab: TunnelLab
  /** The first side's run folder, a file system of its own. */
  let disk = ''
  /** The second side's. */
  let supervisor: ChildProcess

  before(async () => {
    lab = await TunnelLab.open('pwk')
    disk = join(lab.folder, lab.a.namespace)
    await mkdir(disk)
    await exec('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'pwk-disk', disk])
    ;[, supervisor] = await Promise.all([lab.startOurs(lab.a), lab.startOurs(lab.b)])
    await lab.introduce()
  })
  after(async () => {
    if (disk !== '') await exec('umount', ['-l', disk]).catch(() => undefined)
    await lab?.close()
  })

  test('IPv4 and IPv6 pass, and wg show says what happened', async (t) => {
    await lab.ping(lab.a, lab.b.inner[4])
    await lab.ping(lab.b, lab.a.inner[6], 5)
    const server = lab.start(lab.b, 'iperf3', ['-s', '-1'])
    await lab.listens(lab.b, 5201)
    const iperf = await lab.run(lab.a, 'iperf3', '-C', 'cubic', '-c', lab.b.inner[4], '-t', '2', '-J')
    server.kill()
    const { end } = JSON.parse(iperf) as { end: { sum_received: { bits_per_second: number; bytes: number } } }
    t.diagnostic(`one TCP stream: ${(end.sum_received.bits_per_second / 1e9).toFixed(2)} Gbit/s`)
    await eventually('wg shows what has passed', 30, async () => {
      const [, received, sent] = (await lab.wg('show', lab.a.device, 'transfer')).trim().split('\t').map(Number)
      return ((sent ?? 0) > end.sum_received.bytes && (received ?? 0) > 1000) || undefined
    })
    const shown = await lab.wg('show', lab.a.device)
    assert.match(shown, new RegExp(`public key: ${lab.a.publicKey.replace(/[+/]/g, '\\$&')}`))
    assert.match(shown, /listening port: 51871/)
    assert.match(shown, /endpoint: 192\.0\.2\.2:51871/)
    assert.match(shown, /allowed ips: 10\.9\.0\.2\/32, fd09::2\/128/)
    assert.match(shown, /latest handshake: /)
  })

  test('showconf, syncconf and setconf keep the session', async () => {
    const handshake = await lab.latestHandshake(lab.a)
    const config = join(lab.folder, 'a.conf')
    await writeFile(config, await lab.wg('showconf', lab.a.device), { mode: 0o600 })
    for (const verb of ['syncconf', 'setconf']) {
      await lab.wg(verb, lab.a.device, config)
      await lab.ping(lab.a, lab.b.inner[4], 2)
    }
    await sameSession(lab, handshake)
    assert.equal((await lab.wg('show', lab.a.device, 'peers')).trim(), lab.b.publicKey)
  })

  test('another port and mark are taken over; a port in use is refused and changes nothing', async () => {
    await lab.wg('set', lab.a.device, 'listen-port', '51999', 'fwmark', '0xe00')
    await lab.ping(lab.a, lab.b.inner[4], 2)
    await endpoint(lab, '192.0.2.1:51999')
    assert.equal((await lab.wg('show', lab.a.device, 'fwmark')).trim(), '0xe00')
    const blocker = lab.start(lab.a, process.execPath, [
      '-e',
      'const s = require("dgram").createSocket("udp4"); s.bind(52001, () => console.log("bound")); process.stdin.resume()',
    ])
    await new Promise<void>((resolve) => blocker.stdout?.once('data', () => resolve()))
    await assert.rejects(lab.wg('set', lab.a.device, 'listen-port', '52001'), /Address already in use/)
    assert.equal((await lab.wg('show', lab.a.device, 'listen-port')).trim(), '51999')
    await lab.ping(lab.a, lab.b.inner[4], 2)
    blocker.kill()
    await lab.wg('set', lab.a.device, 'listen-port', '51871')
    await lab.ping(lab.a, lab.b.inner[4], 2)
  })

  test('bad input is refused by wg and changes nothing', async () => {
    const unchanged = await lab.wg('showconf', lab.a.device)
    await assert.rejects(lab.wg('set', lab.a.device, 'peer', lab.a.publicKey), /Invalid argument/)
    const zero = Buffer.alloc(32).toString('base64')
    await assert.rejects(lab.wg('set', lab.a.device, 'peer', zero, 'allowed-ips', '10.1.0.0/16'), /Invalid argument/)
    assert.equal(await lab.wg('showconf', lab.a.device), unchanged)
    const told = /level=warning msg="configuration refused"/
    await eventually('the log says so', 30, async () => told.test(lab.log(lab.a)) || undefined)
    assert.ok(!lab.log(lab.a).includes(lab.a.privateKey))
  })

  test('files are for root alone, and hold what is configured', async () => {
    const folder = join(lab.folder, lab.a.namespace, lab.a.device)
    for (const name of ['config', 'state']) assert.equal((await stat(join(folder, name))).mode & 0o777, 0o600, name)
    assert.equal((await stat(`/var/run/wireguard/${lab.a.device}.sock`)).mode & 0o777, 0o600)
    const config = await readFile(join(folder, 'config'), 'utf8')
    assert.ok(config.includes(`public_key=${Buffer.from(lab.b.publicKey, 'base64').toString('hex')}`))
    assert.match(config, /allowed_ip=10\.9\.0\.2\/32\nallowed_ip=fd09::2\/128\n/)
  })

  for (const what of ['keeper', 'engine'] as const) {
    test(`kill -9 of the ${what}: the session goes on, the loss is printed`, async (t) => {
      const handshake = await lab.latestHandshake(lab.a)
      const shown = await lab.wg('show', lab.a.device, 'allowed-ips')
      const loss = await lab.probe(4, () => lab.kill(lab.a, what))
      t.diagnostic(`${what} killed: ${loss.lost} of ${loss.sent} packets lost, longest run ${loss.longestRun}`)
      await lab.ping(lab.a, lab.b.inner[4], 3)
      await sameSession(lab, handshake)
      assert.equal(await lab.wg('show', lab.a.device, 'allowed-ips'), shown)
      assert.ok(loss.lost < loss.sent, 'traffic was there before')
      const status = await lab.status(lab.a)
      assert.ok(status[what].restarts >= 1)
      assert.equal(loss.duplicates, 0)
    })
  }

  // Its run folder is in memory, as /run is on a node. (That of the other side has too little room.)
  test('kill -9 of everything: started again it goes on with its session and its addresses', async (t) => {
    if (!lab.folder.startsWith('/dev/shm/')) return t.skip('needs /dev/shm')
    const { keeper, engine } = await lab.status(lab.b)
    const loss = await lab.probe(4, async () => {
      const ended = once(supervisor, 'exit')
      for (const pid of [engine.pid, keeper.pid]) process.kill(pid, 'SIGKILL')
      supervisor.kill('SIGKILL')
      await ended
      supervisor = await lab.startOurs(lab.b)
    })
    t.diagnostic(`all killed: ${loss.lost} of ${loss.sent} packets lost, longest run ${loss.longestRun}`)
    assert.equal(loss.duplicates, 0)
    assert.match(lab.log(lab.b).split('engine connected').at(-1) ?? '', /peers=1 sessions=[123]/)
    assert.match(await lab.run(lab.b, 'ping', '-c', '3', '-i', '0.2', lab.a.inner[6]), / 0% packet loss/)
  })

  test('told to end, or to remove what a killed one has left, it leaves neither device nor session', async () => {
    const runDir = join(lab.folder, lab.b.namespace)
    const end = async (signal: NodeJS.Signals) => {
      const ended = once(supervisor, 'exit')
      supervisor.kill(signal)
      await ended
    }
    const there = async () => await lab.run(lab.b, 'ip', 'link', 'show', lab.b.device).catch(() => undefined)
    const nothingLeft = async () => {
      await eventually('the device goes', 10, async () => ((await there()) === undefined ? true : undefined))
      await assert.rejects(stat(join(runDir, lab.b.device)), { code: 'ENOENT' })
    }
    await end('SIGTERM')
    await nothingLeft()
    supervisor = await lab.startOurs(lab.b)
    await end('SIGKILL')
    supervisor = lab.start(lab.b, engineProgram, ['supervise', '--run-dir', runDir])
    const request = JSON.stringify({ id: 1, op: 'device.remove', name: lab.b.device })
    const remove = () => exchange(join(runDir, 'supervisor.sock'), `${request}\n`, (text) => text.includes('\n'), 5000)
    const answer = await eventually('the supervisor answers', 10, () => remove().catch(() => undefined))
    assert.equal((JSON.parse(answer) as { ok: boolean }).ok, true)
    await nothingLeft()
    await end('SIGTERM')
    supervisor = await lab.startOurs(lab.b)
    await lab.introduce()
    assert.match(lab.log(lab.b).split('engine connected').at(-1) ?? '', /peers=0 sessions=0/)
    assert.match(await lab.run(lab.b, 'ping', '-c', '3', '-i', '0.2', '-w', '20', lab.a.inner[4]), / 3 received/)
  })

  test('a full file system is told; keeper and engine are killed and go on; it is saved when there is room', async () => {
    const handshake = await lab.latestHandshake(lab.a)
    const config = join(disk, lab.a.device, 'config')
    const setKeepalive = () => lab.wg('set', lab.a.device, 'peer', lab.b.publicKey, 'persistent-keepalive', '25')
    const before = await readFile(config, 'utf8')
    const file = await open(join(disk, 'fills-it'), 'w')
    await assert.rejects(
      async () => {
        for (;;) await file.write(Buffer.alloc(4096))
      },
      { code: 'ENOSPC' },
    )
    await file.close()
    await assert.rejects(setKeepalive(), /No space left on device/)
    const told = () => lab.log(lab.a).includes(`no space left to write ${config}`)
    await eventually('the keeper says why', 60, async () => told() || undefined)
    for (const what of ['keeper', 'engine'] as const) await lab.kill(lab.a, what)
    await lab.ping(lab.a, lab.b.inner[4], 3)
    await sameSession(lab, handshake)
    assert.equal(await readFile(config, 'utf8'), before)
    await rm(join(disk, 'fills-it'))
    await setKeepalive()
    assert.match(await readFile(config, 'utf8'), /persistent_keepalive_interval=25/)
  })

  test('kill -9 of the keeper in the middle of a handshake: traffic comes by itself', async () => {
    const { publicKey } = lab.b
    await lab.wg('set', lab.a.device, 'peer', publicKey, 'remove')
    await lab.kill(lab.a, 'keeper')
    await lab.introduce()
    const reached = lab.reach(lab.a, lab.b.inner[4])
    await lab.kill(lab.a, 'keeper')
    await reached
    await lab.ping(lab.a, lab.b.inner[4], 2)
  })

  test('the keeper needs at most 90 MiB, the engine 32', async (t) => {
    const { keeper, engine } = await lab.status(lab.b)
    const [keeperMib, engineMib] = [await lab.residentMib(keeper.pid), await lab.residentMib(engine.pid)]
    t.diagnostic(`resident: keeper ${keeperMib.toFixed(0)} MiB, engine ${engineMib.toFixed(0)} MiB`)
    assert.ok(keeperMib <= 90 && engineMib <= 32)
  })
})

suite('over IPv6 outside, one end without an endpoint', { skip }, () => {
  let lab: TunnelLab

  before(async () => {
    lab = await TunnelLab.open('pwk6')
    await Promise.all([lab.startOurs(lab.a), lab.startOurs(lab.b)])
    await lab.introduce({ family: 6, endpoints: 'a', psk: 'cGVsbGljbGUgdGVzdCBwcmUtc2hhcmVkIGtleSAxMjM=' })
  })
  after(() => lab?.close())

  test('the responder learns where the initiator is', async () => {
    await lab.ping(lab.a, lab.b.inner[6], 5)
    await endpoint(lab, '[2001:db8::1]:51871')
    assert.match(await lab.wg('show', lab.a.device), /preshared key: \(hidden\)/)
  })
})

/** No handshake since `before` but the one that is due after two minutes. */
async function sameSession(lab: TunnelLab, before: number): Promise<void> {
  const now = await lab.latestHandshake(lab.a)
  assert.ok(now === before || now - before >= 119, 'no new handshake')
}

/** The second side learns where the first one is. */
async function endpoint(lab: TunnelLab, text: string): Promise<void> {
  await eventually(`the endpoint is ${text}`, 30, async () => {
    return (await lab.wg('show', lab.b.device, 'endpoints')).trim().split('\t')[1] === text || undefined
  })
}
