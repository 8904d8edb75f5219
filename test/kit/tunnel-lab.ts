import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { accessSync, existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'esbuild'

/**
 * Two network namespaces joined by a veth pair, in each of which a tunnel can be started: ours (supervisor, engine and keeper)
 * or another program that speaks WireGuard's control protocol. Everything ends with `close`, also after a failure.
 */

const exec = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))
export const engineProgram = process.env['PELLICLE_ENGINE'] ?? join(root, 'engine/target/release/pellicle-engine')
const probe = join(root, 'test/kit/probe/main.ts')

/** Undefined when all is there; else what to say in `skip`. */
export function missingForTunnels(...programs: readonly string[]): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root'
  if (!existsSync('/dev/net/tun')) return 'needs /dev/net/tun'
  if (!existsSync(engineProgram)) return 'needs the engine (cargo build --release in engine/)'
  const folders = (process.env['PATH'] ?? '').split(':')
  const missing = ['ip', 'wg', ...programs].filter((name) => !folders.some((folder) => executable(join(folder, name))))
  return missing.length === 0 ? undefined : `needs ${missing.join(', ')}`
}

export interface Side {
  readonly namespace: string
  readonly device: string
  readonly outer: { readonly 4: string; readonly 6: string }
  readonly inner: { readonly 4: string; readonly 6: string }
  readonly privateKey: string
  readonly publicKey: string
}

export interface ProbeLoss {
  readonly sent: number
  readonly lost: number
  readonly longestRun: number
  readonly duplicates: number
}

const PORT = 51871
/** In memory, as /run is on a node: there sessions outlive a supervisor that is killed. */
const MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()

export class TunnelLab {
  readonly folder: string
  readonly a: Side
  readonly b: Side
  readonly #children = new Set<ChildProcess>()
  readonly #logs = new Map<string, string[]>()
  #keeper = ''

  private constructor(folder: string, a: Side, b: Side) {
    this.folder = folder
    this.a = a
    this.b = b
  }

  /** `prefix` makes names unique: at most 7 characters. */
  static async open(prefix: string): Promise<TunnelLab> {
    const folder = await mkdtemp(join(MEMORY, `${prefix}-`))
    const lab = new TunnelLab(folder, await newSide(prefix, 'a', 1), await newSide(prefix, 'b', 2))
    try {
      await lab.#wire(prefix)
      lab.#keeper = await bundleKeeper(folder)
    } catch (error) {
      await lab.close()
      throw error
    }
    return lab
  }

  /** Supervisor, engine and keeper; done when `wg` works. `program`: another build of the engine. Gives the supervisor. */
  async startOurs(side: Side, program = engineProgram): Promise<ChildProcess> {
    const device = `name=${side.device},mtu=1420,port=${PORT},mark=0`
    const keeper = `${process.execPath} ${this.#keeper}`
    const runDir = join(this.folder, side.namespace)
    const args = ['supervise', '--run-dir', runDir, '--keeper-command', keeper, '--device', device]
    const child = this.start(side, program, args)
    await this.#ready(side)
    return child
  }

  /** Supervisor and engine for IPsec; the engine's client is who asks. Gives the supervisor and the engine's socket. */
  async startIpsec(side: Side, mtu = 1420): Promise<{ supervisor: ChildProcess; socket: string }> {
    const runDir = join(this.folder, side.namespace)
    const device = `name=${side.device},kind=ipsec,mtu=${mtu},port=4500,mark=0`
    const supervisor = this.start(side, engineProgram, ['supervise', '--run-dir', runDir, '--device', device])
    for (let attempt = 0; ; attempt++) {
      const ready = await this.status(side).then(
        (state) => state.ready,
        () => false,
      )
      if (ready) break
      if (attempt > 6000) throw new Error(`${side.device} is not ready:\n${this.log(side)}`)
      await sleep(10)
    }
    await this.#up(side)
    return { supervisor, socket: join(runDir, side.device, 'engine.sock') }
  }

  /** Another program, e.g. wireguard-go in the foreground; gives its process. */
  async startOther(side: Side, program: string, env: Record<string, string> = {}): Promise<ChildProcess> {
    const child = this.start(side, program, ['-f', side.device], { LOG_LEVEL: 'error', ...env })
    // with the key, before the device is up, as wg-quick does: gotatun ends when its port changes while packets wait
    await this.#ready(side, ['listen-port', `${PORT}`])
    return child
  }

  /** Each gets the other as its one peer, by the real `wg`. */
  async introduce(options: { family?: 4 | 6; psk?: string; endpoints?: 'both' | 'a' } = {}): Promise<void> {
    const { family = 4, psk, endpoints = 'both' } = options
    for (const [side, other] of [
      [this.a, this.b],
      [this.b, this.a],
    ] as const) {
      const address = family === 4 ? other.outer[4] : `[${other.outer[6]}]`
      const known = endpoints === 'both' || side === this.a ? ['endpoint', `${address}:${PORT}`] : []
      const secret = psk === undefined ? [] : ['preshared-key', await this.#secretFile('psk', psk)]
      const ips = ['allowed-ips', `${other.inner[4]}/32,${other.inner[6]}/128`]
      await this.wg('set', side.device, 'peer', other.publicKey, ...known, ...secret, ...ips)
    }
  }

  async setPsk(side: Side, other: Side, psk: string): Promise<void> {
    const file = await this.#secretFile(`psk-${side.device}`, psk)
    await this.wg('set', side.device, 'peer', other.publicKey, 'preshared-key', file)
  }

  async wg(...args: string[]): Promise<string> {
    return (await exec('wg', args)).stdout
  }

  /** Unix seconds; 0: never. */
  async latestHandshake(side: Side): Promise<number> {
    const text = await this.wg('show', side.device, 'latest-handshakes')
    return Number(text.trim().split('\t')[1] ?? 0)
  }

  async run(side: Side, program: string, ...args: string[]): Promise<string> {
    return (await exec('ip', ['netns', 'exec', side.namespace, program, ...args], { timeout: 60_000 })).stdout
  }

  /** So many pings, each of which is answered, however late; rejects with what ping said otherwise. */
  async ping(side: Side, target: string, count = 5): Promise<void> {
    // with -w ping sends more than it was asked for while answers are late, and ends at so many
    const options = ['-n', '-c', `${count}`, '-i', '0.2', '-w', '50']
    const said = await this.run(side, 'ping', ...options, target).catch(
      (error: { stdout?: string; message: string }) => error.stdout ?? error.message,
    )
    const answered = new Set([...said.matchAll(/icmp_seq=(\d+) ttl=/g)].map(([, number]) => Number(number)))
    for (let number = 1; number <= count; number++) {
      if (!answered.has(number)) throw new Error(`no answer to ping ${number}:\n${said}`)
    }
  }

  /** Pings until one is answered. */
  async reach(side: Side, target: string): Promise<void> {
    await this.run(side, 'ping', '-n', '-c', '1', '-i', '0.2', '-w', '50', target)
  }

  /** Resolves when somebody listens on a TCP port. */
  async listens(side: Side, port: number): Promise<void> {
    // 0A: TCP_LISTEN
    const line = new RegExp(`:${port.toString(16).toUpperCase().padStart(4, '0')} \\S+ 0A `)
    const read = () => this.run(side, 'cat', '/proc/net/tcp', '/proc/net/tcp6')
    for (let attempt = 0; !line.test(await read()); attempt++) {
      if (attempt > 600) throw new Error(`nobody listens on port ${port}:\n${this.log(side)}`)
      await sleep(50)
    }
  }

  /** What the kernel dropped at both sides because a process did not get a processor for a while: not our doing. */
  async overruns(): Promise<number> {
    const backlog = (await readFile('/proc/net/softnet_stat', 'utf8')).trim().split('\n')
    let sum = backlog.reduce((total, line) => total + Number.parseInt(line.split(' ')[1] ?? '0', 16), 0)
    for (const side of [this.a, this.b]) {
      const udp = await this.run(side, 'awk', '$1=="Udp:" && $2 ~ /[0-9]/ {print $6 + $7}', '/proc/net/snmp')
      const udp6 = await this.run(
        side,
        'awk',
        '/^Udp6(Rcv|Snd)bufErrors/ {n += $2} END {print n + 0}',
        '/proc/net/snmp6',
      )
      const tun = await this.run(side, 'cat', `/sys/class/net/${side.device}/statistics/tx_dropped`)
      sum += Number(udp) + Number(udp6) + Number(tun)
    }
    return sum
  }

  start(side: Side, program: string, args: readonly string[], env: Record<string, string> = {}): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', side.namespace, program, ...args], {
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.#children.add(child)
    const log = this.#logs.get(side.namespace) ?? []
    this.#logs.set(side.namespace, log)
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => log.push(text))
    }
    child.on('error', (error) => log.push(String(error)))
    child.on('exit', () => this.#children.delete(child))
    return child
  }

  log(side: Side): string {
    return (this.#logs.get(side.namespace) ?? []).join('')
  }

  /** What the supervisor says of its one device. */
  async status(side: Side): Promise<{ engine: Child; keeper: Child; listenPort: number; ready: boolean }> {
    const { exchange } = await import('#io/userspace/line-socket.ts')
    const path = join(this.folder, side.namespace, 'supervisor.sock')
    const answer = await exchange(path, '{"id":1,"op":"status"}\n', (text) => text.includes('\n'), 5000)
    return (JSON.parse(answer) as { devices: [{ engine: Child; keeper: Child; listenPort: number; ready: boolean }] })
      .devices[0]
  }

  /** `kill -9`, then waits until another process of that kind answers. */
  async kill(side: Side, what: 'engine' | 'keeper'): Promise<void> {
    await this.killPart(side, what)
    await this.#ready(side)
  }

  /** `kill -9`, then waits until there is another one, which may not answer yet. */
  async killPart(side: Side, what: 'engine' | 'keeper'): Promise<void> {
    const { pid } = (await this.status(side))[what]
    process.kill(pid, 'SIGKILL')
    while ([pid, null].includes((await this.status(side))[what].pid)) await sleep(5)
  }

  /** UDP echo at 1,000/s from a to b through the tunnel for `seconds`, and for as long as `during` takes. */
  async probe(seconds: number, during: () => Promise<void>, family: 4 | 6 = 4): Promise<ProbeLoss> {
    const echo = this.start(this.b, process.execPath, [probe, 'echo', '7007'])
    await this.#said(echo, 'ready')
    const args = [probe, 'send', this.b.inner[family], '7007', '--seconds', '600']
    const sender = this.start(this.a, process.execPath, args)
    const result = this.#said(sender, '}')
    await new Promise<void>((resolve) => {
      sender.stderr?.once('data', () => resolve())
      sender.once('exit', () => resolve())
    })
    const enough = sleep(seconds * 1000)
    await sleep(1000)
    await during()
    await sleep(1000)
    await enough
    sender.stdin?.end()
    const text = await result
    echo.stdin?.end()
    return JSON.parse(text) as ProbeLoss
  }

  /** Resident memory in MiB. */
  async residentMib(pid: number): Promise<number> {
    const status = await readFile(`/proc/${pid}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024
  }

  async close(): Promise<void> {
    const ended = [...this.#children].map(
      (child) =>
        new Promise<void>((resolve) => {
          child.on('exit', () => resolve())
          const timer = setTimeout(() => child.kill('SIGKILL'), 5000)
          timer.unref()
          child.stdin?.end()
          child.kill('SIGTERM')
        }),
    )
    await Promise.all(ended)
    for (const { namespace, device } of [this.a, this.b]) {
      await exec('ip', ['netns', 'del', namespace]).catch(() => undefined)
      await rm(`/var/run/wireguard/${device}.sock`, { force: true })
    }
    await rm(this.folder, { recursive: true, force: true })
  }

  async #wire(prefix: string): Promise<void> {
    for (const { namespace } of [this.a, this.b]) {
      await exec('ip', ['netns', 'add', namespace])
      await exec('ip', ['-n', namespace, 'link', 'set', 'lo', 'up'])
    }
    const [va, vb] = [`${prefix}va`, `${prefix}vb`]
    const ends = ['type', 'veth', 'peer', 'name', vb, 'netns', this.b.namespace]
    await exec('ip', ['link', 'add', va, 'netns', this.a.namespace, ...ends])
    for (const [side, link] of [
      [this.a, va],
      [this.b, vb],
    ] as const) {
      await exec('ip', ['-n', side.namespace, 'addr', 'add', `${side.outer[4]}/24`, 'dev', link])
      await exec('ip', ['-n', side.namespace, 'addr', 'add', `${side.outer[6]}/64`, 'dev', link, 'nodad'])
      await exec('ip', ['-n', side.namespace, 'link', 'set', link, 'up'])
    }
  }

  /** Waits for the control socket, then gives the device its key and addresses. */
  async #ready(side: Side, more: readonly string[] = []): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        await this.wg('show', side.device, 'listen-port')
        break
      } catch (error) {
        if (attempt > 6000) throw new Error(`${side.device} does not answer:\n${this.log(side)}`, { cause: error })
        await sleep(10)
      }
    }
    if ((await this.wg('show', side.device, 'public-key')).trim() === side.publicKey) return
    const key = await this.#secretFile(`key-${side.device}`, side.privateKey)
    await this.wg('set', side.device, ...more, 'private-key', key)
    await this.#up(side)
  }

  async #up({ namespace, device, inner }: Side): Promise<void> {
    await exec('ip', ['-n', namespace, 'link', 'set', device, 'up'])
    await exec('ip', ['-n', namespace, 'addr', 'replace', `${inner[4]}/24`, 'dev', device])
    await exec('ip', ['-n', namespace, 'addr', 'replace', `${inner[6]}/64`, 'dev', device, 'nodad'])
  }

  async #secretFile(name: string, secret: string): Promise<string> {
    const path = join(this.folder, name)
    await writeFile(path, `${secret}\n`, { mode: 0o600 })
    return path
  }

  #said(child: ChildProcess, text: string): Promise<string> {
    return new Promise((resolve, reject) => {
      let all = ''
      child.stdout?.on('data', (chunk: string) => {
        all += chunk
        if (all.includes(text)) resolve(all)
      })
      child.on('exit', () => reject(new Error(`ended without saying ${text}: ${all}`)))
    })
  }
}

interface Child {
  readonly pid: number
  readonly restarts: number
}

async function newSide(prefix: string, letter: string, number: number): Promise<Side> {
  const privateKey = (await exec('wg', ['genkey'])).stdout.trim()
  return {
    namespace: `${prefix}-${letter}`,
    device: `${prefix}wg${letter}`,
    outer: { 4: `192.0.2.${number}`, 6: `2001:db8::${number}` },
    inner: { 4: `10.9.0.${number}`, 6: `fd09::${number}` },
    privateKey,
    publicKey: (await pipe(`${privateKey}\n`, 'wg', ['pubkey'])).trim(),
  }
}

/** As it ships: one file. */
async function bundleKeeper(folder: string): Promise<string> {
  const outfile = join(folder, 'keeper.cjs')
  const entryPoints = [join(root, 'apps/keeper/main.ts')]
  await build({ entryPoints, outfile, bundle: true, platform: 'node', format: 'cjs', minify: true, logLevel: 'error' })
  return outfile
}

function pipe(input: string, program: string, args: readonly string[]): Promise<string> {
  const child = exec(program, args)
  child.child.stdin?.end(input)
  return child.then(({ stdout }) => stdout)
}

function executable(path: string): boolean {
  try {
    accessSync(path)
    return true
  } catch {
    return false
  }
}
