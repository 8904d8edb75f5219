import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { missingForTunnels } from '#test/kit/tunnel-lab.ts'

/** `pellicle-wireguard` where a program expects wireguard-go: starts, ends, names, namespaces, wg-quick. */
const exec = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))
const program = join(root, 'bin/pellicle-wireguard')
const skip = missingForTunnels('wg-quick', 'ss', 'python3', 'ping', 'iperf3', 'pgrep') ?? false
const SPACE = 'pdi-a'
const OTHER = 'pdi-b'
const DEVICE = 'pdiwg0'
const PEER = 'pdiwg1'
const SOCKET = `/var/run/wireguard/${DEVICE}.sock`
const FOLDER = `/run/pellicle-wireguard/${DEVICE}`

/** Also when it ends with another status than 0: then `code` says so. */
async function run(command: string, ...args: string[]): Promise<{ out: string; code: number }> {
  try {
    const { stdout, stderr } = await exec(command, args, { timeout: 60_000 })
    return { out: stdout + stderr, code: 0 }
  } catch (error) {
    const { stdout, stderr, code } = error as { stdout: string; stderr: string; code: number }
    return { out: stdout + stderr, code: typeof code === 'number' ? code : -1 }
  }
}

const inside = (...args: string[]) => run('ip', 'netns', 'exec', SPACE, ...args)

/** The process that holds the device; 0: none. */
async function supervisor(): Promise<number> {
  const { out } = await run('pgrep', '-f', `pellicle-engine wireguard .*${DEVICE}$`)
  return Number(out.trim().split('\n')[0])
}

async function until(what: string, done: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; !(await done()); attempt++) {
    assert.ok(attempt < 3000, `never: ${what}`)
    await sleep(20)
  }
}

const ended = () =>
  until(
    'everything is gone, the process last',
    async () => !existsSync(SOCKET) && !existsSync(FOLDER) && (await supervisor()) === 0,
  )

async function hasDevice(space: string, device = DEVICE): Promise<boolean> {
  return (await run('ip', '-n', space, 'link', 'show', device)).code === 0
}

interface End {
  readonly device: string
  readonly space: string
  readonly ip: string
  readonly port: number
}

/** Keys, ports, addresses and each other, both over the loopback device. */
async function introduce(folder: string, ends: readonly [End, End]): Promise<void> {
  const keys: string[] = []
  for (const { device, space, ip, port } of ends) {
    const path = join(folder, `${device}.key`)
    await writeFile(path, (await run('wg', 'genkey')).out, { mode: 0o600 })
    await exec('wg', ['set', device, 'private-key', path, 'listen-port', `${port}`])
    keys.push((await run('wg', 'show', device, 'public-key')).out.trim())
    await exec('ip', ['-n', space, 'link', 'set', device, 'up'])
    await exec('ip', ['-n', space, 'addr', 'add', `${ip}/24`, 'dev', device])
  }
  const [a, b] = ends
  for (const [own, other, key] of [
    [a, b, keys[1]],
    [b, a, keys[0]],
  ] as const) {
    const peer = ['peer', key ?? '', 'endpoint', `127.0.0.1:${other.port}`, 'allowed-ips', `${other.ip}/32`]
    await exec('wg', ['set', own.device, ...peer])
  }
}

suite('in the place of wireguard-go', { skip, concurrency: 1 }, () => {
  let folder: string

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'pdi-'))
    for (const space of [SPACE, OTHER]) await exec('ip', ['netns', 'add', space])
  })
  after(async () => {
    for (const space of [SPACE, OTHER]) {
      await run('ip', '-n', space, 'link', 'del', DEVICE)
      await run('ip', 'netns', 'del', space)
    }
    await ended()
    await rm(folder, { recursive: true, force: true })
  })

  test('returns when it is ready: MTU 1420, down, a port of the kernel; a second start fails and says why', async () => {
    assert.deepEqual(await inside(program, DEVICE), { out: '', code: 0 })
    const { out } = await run('ip', '-n', SPACE, 'link', 'show', DEVICE)
    assert.match(out, /mtu 1420 .*state DOWN/)
    assert.match((await run('wg', 'show', DEVICE, 'listen-port')).out, /^[1-9][0-9]+\n$/)
    const again = await inside(program, DEVICE)
    assert.equal(again.code, 1)
    assert.match(again.out, new RegExp(`a device ${DEVICE} is running`))
    assert.ok(await hasDevice(SPACE))
  })

  test('moved to another namespace its sockets stay, and deleted there everything ends', async () => {
    await exec('ip', ['-n', SPACE, 'link', 'set', DEVICE, 'netns', OTHER])
    await exec('wg', ['set', DEVICE, 'listen-port', '47123'])
    assert.match((await inside('ss', '-lun')).out, /:47123/)
    assert.doesNotMatch((await run('ip', 'netns', 'exec', OTHER, 'ss', '-lun')).out, /:47123/)
    await exec('ip', ['-n', OTHER, 'link', 'del', DEVICE])
    await ended()
    assert.doesNotMatch((await inside('ss', '-lun')).out, /:47123/)
  })

  test('renamed it goes on under its first control socket', async () => {
    assert.equal((await inside(program, DEVICE)).code, 0)
    await exec('ip', ['-n', SPACE, 'link', 'set', DEVICE, 'name', 'pdiother'])
    await exec('wg', ['set', DEVICE, 'listen-port', '47124'])
    assert.match((await run('wg', 'show', DEVICE, 'listen-port')).out, /^47124$/m)
    await exec('ip', ['-n', SPACE, 'link', 'del', 'pdiother'])
    await ended()
  })

  test('ends by its control socket being removed, and by SIGTERM and SIGINT, and takes the device along', async () => {
    assert.equal((await inside(program, DEVICE)).code, 0)
    await rm(SOCKET)
    await ended()
    assert.ok(!(await hasDevice(SPACE)))
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      assert.equal((await inside(program, DEVICE)).code, 0)
      process.kill(await supervisor(), signal)
      await ended()
      assert.ok(!(await hasDevice(SPACE)))
    }
  })

  test('a new device of an old name knows nothing of the old one', async () => {
    assert.equal((await inside(program, DEVICE)).code, 0)
    const key = join(folder, 'key')
    await writeFile(key, (await run('wg', 'genkey')).out, { mode: 0o600 })
    await exec('wg', ['set', DEVICE, 'private-key', key])
    process.kill(await supervisor(), 'SIGKILL')
    await until('the device is gone', async () => !(await hasDevice(SPACE)))
    assert.equal((await inside(program, DEVICE)).code, 0)
    assert.equal((await run('wg', 'show', DEVICE, 'private-key')).out, '(none)\n')
    await exec('ip', ['-n', SPACE, 'link', 'del', DEVICE])
    await ended()
  })

  test('a device of that name that is not ours is left alone', async () => {
    await exec('ip', ['-n', SPACE, 'link', 'add', DEVICE, 'type', 'veth', 'peer', 'name', 'pdipeer'])
    const { out, code } = await inside(program, DEVICE)
    assert.equal(code, 1)
    assert.match(out, new RegExp(`there is a device ${DEVICE} already`))
    assert.ok(await hasDevice(SPACE))
    await exec('ip', ['-n', SPACE, 'link', 'del', DEVICE])
    await ended()
  })

  test('in the foreground, with a TUN device and a control socket that it is given', async () => {
    // what a sandbox does: opens both, and starts the program without rights to do so
    const starter = `
import fcntl, os, socket, struct, sys
tun = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'${DEVICE}', 0x1001))
os.makedirs('/var/run/wireguard', exist_ok=True)
server = socket.socket(socket.AF_UNIX)
server.bind('${SOCKET}'); server.listen(8)
for fd in (tun, server.fileno()): os.set_inheritable(fd, True)
os.environ.update(WG_TUN_FD=str(tun), WG_UAPI_FD=str(server.fileno()), WG_PROCESS_FOREGROUND='1')
os.execv('${program}', ['${program}', 'ignored'])`
    const child = spawn('ip', ['netns', 'exec', SPACE, 'python3', '-c', starter], { stdio: 'inherit' })
    const exit = new Promise<number | null>((resolve) => child.on('exit', resolve))
    await until('wg answers', async () => (await run('wg', 'show', DEVICE, 'listen-port')).code === 0)
    // such a device has no virtio headers, so no super packets: what passes it is cut all the same
    assert.equal((await inside(program, PEER)).code, 0)
    await exec('ip', ['-n', SPACE, 'link', 'set', PEER, 'netns', OTHER])
    await exec('ip', ['-n', SPACE, 'link', 'set', 'lo', 'up'])
    await introduce(folder, [
      { device: DEVICE, space: SPACE, ip: '10.79.0.1', port: 47127 },
      { device: PEER, space: OTHER, ip: '10.79.0.2', port: 47128 },
    ])
    // until five are answered, however late
    const { out: said } = await inside('ping', '-c', '5', '-i', '0.1', '-w', '50', '-s', '1392', '10.79.0.2')
    for (let number = 1; number <= 5; number++) assert.match(said, new RegExp(`icmp_seq=${number} ttl=`))
    const server = spawn('ip', ['netns', 'exec', OTHER, 'iperf3', '-s', '-1'], { stdio: 'ignore' })
    await until('iperf3 listens', async () => / 5201|:5201/.test((await run('ss', '-N', OTHER, '-ltn')).out))
    const { out } = await inside('iperf3', '-C', 'cubic', '-c', '10.79.0.2', '-n', '20M', '-J')
    server.kill()
    // what was on its way when the sender ended is not always counted
    const { end } = JSON.parse(out) as { end: { sum_received: { bytes: number } } }
    assert.ok(end.sum_received.bytes > 10e6, out)
    for (const [space, device] of [
      [SPACE, DEVICE],
      [OTHER, PEER],
    ] as const) {
      await exec('ip', ['-n', space, 'link', 'del', device])
    }
    assert.equal(await exit, 0)
    await ended()
  })

  test('wg-quick up, syncconf and down', async () => {
    const keys = await Promise.all([run('wg', 'genkey'), run('wg', 'genkey')])
    const peer = (await run('sh', '-c', `echo ${keys[1].out.trim()} | wg pubkey`)).out.trim()
    const config = (ips: string) => `[Interface]
PrivateKey = ${keys[0].out.trim()}
Address = 10.77.0.1/24
ListenPort = 47125
[Peer]
PublicKey = ${peer}
AllowedIPs = ${ips}
Endpoint = 127.0.0.1:47126
PersistentKeepalive = 25
`
    const path = join(folder, `${DEVICE}.conf`)
    await writeFile(path, config('10.77.0.2/32'), { mode: 0o600 })
    const env = [`WG_QUICK_USERSPACE_IMPLEMENTATION=${program}`]
    const up = await inside('env', ...env, 'wg-quick', 'up', path)
    assert.equal(up.code, 0, up.out)
    assert.match(
      (await run('wg', 'show', DEVICE)).out,
      /listening port: 47125[^]*persistent keepalive: every 25 seconds/,
    )
    assert.match((await run('ip', '-n', SPACE, 'route')).out, /10\.77\.0\.0\/24 dev pdiwg0/)
    const stripped = join(folder, 'stripped.conf')
    await writeFile(path, config('10.77.0.2/32, 10.78.0.0/16'), { mode: 0o600 })
    await writeFile(stripped, (await inside('wg-quick', 'strip', path)).out, { mode: 0o600 })
    await exec('wg', ['syncconf', DEVICE, stripped])
    assert.match((await run('wg', 'show', DEVICE, 'allowed-ips')).out, /10\.77\.0\.2\/32 10\.78\.0\.0\/16/)
    const down = await inside('env', ...env, 'wg-quick', 'down', path)
    assert.equal(down.code, 0, down.out)
    await ended()
    assert.ok(!(await hasDevice(SPACE)))
  })

  test('a connection that says half a sentence keeps nobody from the device', async () => {
    assert.equal((await inside(program, DEVICE)).code, 0)
    const half = createConnection(SOCKET)
    half.write('set=1\nlisten_po')
    assert.equal((await run('wg', 'show', DEVICE, 'listen-port')).code, 0)
    half.destroy()
    await exec('ip', ['-n', SPACE, 'link', 'del', DEVICE])
    await ended()
  })
})
