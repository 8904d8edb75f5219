import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { HostPlan } from '#core/host/host-plan.ts'
import type { Mac } from '#core/ip/mac.ts'
import { type IpsecPlan, type Plan, plan } from '#core/plan/plan.ts'
import { podNetwork } from '#core/plan/pod-network.ts'
import type { PlanConfig, Snapshot } from '#core/plan/snapshot.ts'
import type { Level } from '#core/transition/level.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { HostKernel } from '#io/kernel/host-kernel.ts'
import { NetlinkSocket } from '#io/kernel/netlink-socket.ts'
import { inNetworkNamespace } from '#io/kernel/network-namespace.ts'
import { addPodDevice } from '#io/kernel/pod-device.ts'
import { UserspaceDatapath } from '#io/userspace/datapath.ts'
import { childrenOf, isIdle } from '#test/kit/idle.ts'
import { FIRST } from '#test/kit/probe/pods.ts'
import {
  CONFIG,
  endpointOf,
  ipsecPeerOf,
  nodeIpsOf,
  peerOf,
  snapshotOf,
  stagePeerOf,
  stageSnapshotOf,
} from '#test/kit/snapshots.ts'
import { FakeEsp } from './fake-esp.ts'

/**
 * Nodes as network namespaces on a bridge, with plans applied for real and the real keeper and engine behind them:
 *
 *     pod 10.244.1.10 ── node 1 172.18.0.3 ──┐                 ┌── node 2 172.18.0.4 ── pod 10.244.2.10
 *                                             ├── bridge "wire" ┤
 *                     stranger 172.18.0.250 ──┘                 └── (the nodes' default route, too)
 *
 * Longer than other files: how nodes are made, brought to a plan and watched is read together.
 */
const ROOT = new URL('../../..', import.meta.url).pathname
const ENGINE = join(ROOT, 'engine/target/release/pellicle-engine')
const FAKE_ESP = join(ROOT, 'test/scenarios/steering/fake-esp.py')
const SPEAK = join(ROOT, 'test/scenarios/steering/speak.py')
const KEEPER = `${process.execPath} ${join(ROOT, 'apps/keeper/main.ts')}`
/** Stands in each ping's payload; 16 bytes are what `ping -p` takes. */
const MARKER = 'PELLICLE-MARKER!'

export type Change = (host: HostPlan) => HostPlan
type Usable = Extract<Plan, { usable: true }>

/** Pings that were answered or not. */
interface Stream {
  readonly name: string
  readonly sent: number
  /** Their numbers. */
  readonly lost: readonly number[]
}

export interface Situation {
  readonly levels: readonly Level[]
  readonly config?: Partial<PlanConfig>
  /** More of one node's. */
  readonly own?: (n: number) => Partial<PlanConfig>
  /** With `nodeEncryption`: nodes say that they send nothing in clear to each other's own addresses, and then refuse it. */
  readonly refusing?: true
  /** Of each node between WireGuard and IPsec; the configuration then says the shape of IPsec. */
  readonly stages?: readonly Level[]
  /** A measure taken out of every node's plan. */
  readonly without?: Change
}

/** Undefined and the test skipped where something is lacking. */
export function lacking(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root'
  if (!existsSync('/dev/net/tun')) return 'needs /dev/net/tun'
  if (!existsSync(ENGINE)) return 'needs the engine (cargo build --release)'
  const missing = ['ip', 'nft', 'tcpdump', 'ping', 'python3'].find(
    (program) => spawnSync(program, ['-V']).error !== undefined,
  )
  return missing === undefined ? undefined : `needs the program ${missing}`
}

export class SteeringCluster {
  readonly #prefix = `pp-${randomBytes(3).toString('hex')}`
  readonly #folder = mkdtempSync(join(tmpdir(), 'pp-steering-'))
  readonly #nodes: Node[] = []
  readonly #children: ChildProcess[] = []
  readonly #namespaces: string[] = []
  readonly #older: Partial<PlanConfig>
  #overruns = 0
  #queues: ReadonlyMap<string, number> = new Map()

  private constructor(older: Partial<PlanConfig>) {
    this.#older = older
  }

  /** `older`: what the pods were made under, before anything is encrypted. */
  static async make(count: number, older: Partial<PlanConfig> = {}): Promise<SteeringCluster> {
    const cluster = new SteeringCluster(older)
    try {
      await cluster.#make(count)
    } catch (error) {
      await cluster.close()
      throw error
    }
    return cluster
  }

  async #make(count: number): Promise<void> {
    this.#namespace('wire')
    this.#run('wire', 'ip link add br0 type bridge')
    this.#run('wire', 'ip link set br0 up')
    this.#join('out', 'ip addr add 172.18.0.250/16 dev eth0', 'ip addr add fc00:18::250/64 dev eth0 nodad')
    for (let n = 1; n <= count; n++) await this.#makeNode(n)
  }

  async #makeNode(n: number): Promise<void> {
    const ips = nodeIpsOf(n)
    this.#join(`n${n}`, `ip addr add ${ips[4]}/16 dev eth0`, `ip addr add ${ips[6]}/64 dev eth0 nodad`)
    this.#run(`n${n}`, 'ip route add default via 172.18.0.250')
    this.#namespace(`p${n}`)
    const folder = join(this.#folder, `n${n}`)
    mkdirSync(join(folder, 'uapi'), { recursive: true })
    const args = ['supervise', '--run-dir', folder, '--uapi-dir', join(folder, 'uapi'), '--keeper-command', KEEPER]
    const child = spawn('ip', ['netns', 'exec', this.path(`n${n}`), ENGINE, ...args], { stdio: 'ignore' })
    this.#children.push(child)
    const { privateKey, publicKey } = generateKeyPairSync('x25519')
    const raw = (jwk: string | undefined) => new Uint8Array(Buffer.from(jwk ?? '', 'base64url'))
    const own = inNetworkNamespace(`/var/run/netns/${this.path(`n${n}`)}`, () => ({
      kernel: new HostKernel(),
      socket: new NetlinkSocket(),
    }))
    const supervisorSocket = join(folder, 'supervisor.sock')
    this.#nodes.push({
      n,
      ...own,
      datapath: new UserspaceDatapath({ supervisorSocket, controlFolder: join(folder, 'uapi') }),
      privateKey: raw(privateKey.export({ format: 'jwk' }).d),
      publicKey: publicKeyOf(raw(publicKey.export({ format: 'jwk' }).x)),
    })
    for (let tries = 0; !existsSync(supervisorSocket); tries++) {
      if (tries > 1200) throw new Error('the supervisor does not come up')
      await sleep(50)
    }
    // pods are older than encryption
    const snapshot = this.#snapshot(n, {
      levels: [0, 0, 0],
      config: { encryption: { ...CONFIG.encryption, ...this.#older.encryption, enabled: false } },
    })
    const endpoint = endpointOf(n, 10)
    const hostMac = '0a:00:00:00:00:01' as Mac
    const inside = podNetwork(snapshot, { device: 'eth0', ips: endpoint.ips, hostMac })
    addPodDevice(own.socket, {
      namespace: `/var/run/netns/${this.path(`p${n}`)}`,
      hostName: endpoint.device,
      hostMac,
      podName: 'eth0',
      podMac: endpoint.mac,
      mtu: inside.mtu,
      gsoMaxSize: inside.gsoMaxSize ?? 65_536,
      addresses: inside.addresses,
      routes: inside.routes,
      neighbours: inside.neighbours,
    })
  }

  /** What the node's plan is, before anything is taken out of it. */
  planOf(n: number, situation: Situation): Usable {
    const result = plan(this.#snapshot(n, situation))
    if (!result.usable) throw new Error(JSON.stringify(result.problems))
    return result
  }

  #snapshot(n: number, { levels, config: common, own: ownConfig, refusing, stages }: Situation): Snapshot {
    const config = ownConfig === undefined ? common : { ...common, ...ownConfig(n) }
    const key = (m: number) => this.#nodes[m - 1]?.publicKey
    const own = stages?.[n - 1]
    if (stages !== undefined && own !== undefined) return this.#between(n, levels, own, stages, config)
    const peers = this.#nodes
      .filter((node) => node.n !== n)
      .map((node) => {
        const level = levels[node.n - 1] ?? 3
        if (config?.encryption?.type === 'ipsec')
          return ipsecPeerOf(node.n, level, { encryptsHosts: refusing === true })
        return peerOf(node.n, level, { publicKeyText: level === 0 ? undefined : node.publicKey })
      })
    const level = levels[n - 1] ?? 3
    return snapshotOf(n, level, peers, {
      config: { ...CONFIG, ...config },
      self: { publicKey: level === 0 || config?.encryption?.type === 'ipsec' ? undefined : key(n) },
    })
  }

  #between(
    n: number,
    levels: readonly Level[],
    own: Level,
    stages: readonly Level[],
    config: Situation['config'],
  ): Snapshot {
    const withKey = (has: unknown, m: number) => (has === undefined ? undefined : this.#nodes[m - 1]?.publicKey)
    const peers = this.#nodes
      .filter((node) => node.n !== n)
      .map((node) => {
        const peer = stagePeerOf(node.n, levels[node.n - 1] ?? 3, stages[node.n - 1] ?? own)
        return { ...peer, publicKeyText: withKey(peer.publicKeyText, node.n) }
      })
    const { shape } = config?.encryption?.ipsec ?? CONFIG.encryption.ipsec
    const { nodeEncryption } = config?.encryption ?? CONFIG.encryption
    const snapshot = stageSnapshotOf(n, levels[n - 1] ?? 3, own, peers, shape, { nodeEncryption })
    const { self } = snapshot
    return { ...snapshot, self: { ...self, publicKey: withKey(self.publicKey, n) } }
  }

  /** Brings every node to its plan: the device first, then what leads into it. */
  async be(situation: Situation): Promise<void> {
    this.#countFull()
    for (const node of this.#nodes) {
      const { host, wireguard, ipsec } = this.planOf(node.n, situation)
      if (ipsec !== undefined) {
        node.esp ??= await this.#openEsp(node.n, ipsec)
        await node.esp.apply(ipsec)
      }
      if (wireguard !== undefined) await node.datapath.apply({ ...wireguard, privateKey: node.privateKey })
      const wanted = situation.without?.(host) ?? host
      // /proc/sys/net is that of the thread's namespace
      const report = inNetworkNamespace(`/var/run/netns/${this.path(`n${node.n}`)}`, () => node.kernel.apply(wanted))
      const wrong = [...report.failed.map(({ fault }) => fault), ...report.faults]
      if (wrong.length > 0)
        throw new AggregateError(wrong, wrong.map((fault) => `${fault.message}: ${String(fault.cause)}`).join('\n'))
      if (wireguard === undefined) await node.datapath.remove('cilium_wg0')
      if (ipsec === undefined) {
        await node.esp?.close()
        node.esp = undefined
      }
    }
  }

  /** Only the way of packets is looked at here, so a program stands in for the engine. */
  async #openEsp(n: number, { name, udpPort, mark }: IpsecPlan): Promise<FakeEsp> {
    const args = ['netns', 'exec', this.path(`n${n}`), 'python3', FAKE_ESP, name, String(udpPort), String(mark)]
    const esp = await FakeEsp.start(spawn('ip', args, { stdio: ['pipe', 'pipe', 'inherit'] }))
    this.#children.push(esp.child)
    return esp
  }

  /** The name of a namespace: `n1` a node, `p1` its pod, `out` the stranger, `wire` the bridge. */
  path(name: string): string {
    return `${this.#prefix}-${name}`
  }

  run(where: string, command: string): string {
    return this.#run(where, command)
  }

  /** Words of speak.py: packets that nobody has asked for, with the marker in them. */
  speak(where: string, words: string): void {
    this.#run(where, `python3 ${SPEAK} ${words}`)
  }

  /** Of the namespace's network; a value may have several words. */
  sysctl(where: string, name: string, value: string): void {
    execFileSync('ip', ['netns', 'exec', this.path(where), 'sysctl', '-qw', `${name}=${value}`])
  }

  /** As another program on the node would. */
  nft(n: number, text: string): void {
    const options = { input: text, stdio: ['pipe', 'ignore', 'pipe'] as const }
    execFileSync('ip', ['netns', 'exec', this.path(`n${n}`), 'nft', '-f', '-'], {
      ...options,
      stdio: [...options.stdio],
    })
  }

  /** How many of three pings with the marker are answered within a second: for those that are to have no answer. */
  ping(where: string, target: string, ...more: string[]): number {
    return Number(/, (\d+) received/.exec(this.#ping(where, target, ['-W1', ...more]))?.[1] ?? 0)
  }

  /** How many of three are answered, however late. */
  reach(where: string, target: string, ...more: string[]): number {
    // with -w ping sends more than it was asked for while answers are late, and ends at so many or at an error
    const answered = this.#ping(where, target, ['-w30', ...more]).matchAll(/icmp_seq=([123]) ttl=/g)
    return new Set([...answered].map(([, number]) => number)).size
  }

  #ping(where: string, target: string, options: readonly string[]): string {
    const pattern = Buffer.from(MARKER).toString('hex')
    const args = ['netns', 'exec', this.path(where), 'ping', '-n', '-c3', '-i0.1', '-s64', '-p', pattern]
    return spawnSync('ip', [...args, ...options, target], { encoding: 'utf8' }).stdout
  }

  /** Resolves when no program of the nodes has anything to do: what was sent is where it goes. */
  async idle(): Promise<void> {
    const all = (pid: number): number[] => [pid, ...childrenOf(pid).flatMap(all)]
    for (let seen = 0, tries = 0; seen < 3 && tries < 3000; tries++) {
      const pids = this.#children.flatMap(({ pid }) => (pid === undefined ? [] : all(pid)))
      seen = pids.every(isIdle) ? seen + 1 : 0
      await sleep(5)
    }
  }

  /** Pings 100 times a second until it is stopped; what was lost of all that was sent until then is a number. */
  stream(where: string, target: string, ...more: string[]): () => Promise<Stream> {
    const args = ['ip', 'netns', 'exec', this.path(where), 'ping', '-n', '-i0.01', ...more, target]
    // what does not fit into its own buffer nobody counts
    const [first = '', ...rest] = [...FIRST, ...args]
    const child = spawn(first, rest, { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#children.push(child)
    const answered = new Set<number>()
    let highest = 0
    createInterface({ input: child.stdout }).on('line', (line) => {
      const number = Number(/icmp_seq=(\d+) ttl=/.exec(line)?.[1] ?? 0)
      if (number === 0) return
      answered.add(number)
      highest = Math.max(highest, number)
    })
    return async () => {
      // what is sent from now on, and a little of it: its answers come after all others, but may be late
      const sent = highest + 50
      const missing = () => Array.from({ length: sent }, (_, i) => i + 1).filter((number) => !answered.has(number))
      for (let quiet = 0, before = -1; missing().length > 0 && quiet < 100; quiet++) {
        await sleep(50)
        if (answered.size !== before && highest < sent) quiet = 0
        before = answered.size
      }
      this.#countFull()
      const closed = once(child, 'close')
      child.kill('SIGINT')
      await closed
      return { name: [where, target, ...more].join(' '), sent, lost: missing() }
    }
  }

  /**
   * What kernels' queues have dropped because a process had no processor for too long: of sockets, TUN devices and
   * processors, as they were when a plan was applied or a stream ended, which take their counts along.
   */
  get overruns(): number {
    return this.#overruns
  }

  #countFull(): void {
    const now = new Map<string, number>()
    const add = (name: string, count: number) => now.set(name, (now.get(name) ?? 0) + count)
    for (const line of readFileSync('/proc/net/softnet_stat', 'utf8').trim().split('\n'))
      add('processors', Number.parseInt(line.split(' ')[1] ?? '0', 16))
    for (const name of this.#nodes.flatMap(({ n }) => [`n${n}`, `p${n}`])) {
      const files = ['snmp', 'snmp6', 'raw', 'raw6', 'dev'].map((file) => `/proc/net/${file}`)
      for (const line of this.#run(name, `cat ${files.join(' ')}`).split('\n')) {
        const fields = line.trim().split(/\s+/)
        if (/^Udp: \d/.test(line)) add(`${name} udp`, Number(fields[5]) + Number(fields[6]))
        else if (/^Udp6(Rcv|Snd)bufErrors/.test(line)) add(`${name} udp6`, Number(fields[1]))
        // of ESP, where it is received: ping drops by a filter what is not its own, and nobody reads what is bound to send
        else if (/^\s*\d+: 0+:0032 /.test(line)) add(`${name} raw`, Number(fields.at(-1)))
        else if (/^\s*(cilium_wg0|pellicle_ipsec):/.test(line)) add(`${name} tun`, Number(fields[12]))
      }
    }
    const first = this.#queues.size === 0
    for (const [name, count] of now)
      this.#overruns += Math.max(0, count - (this.#queues.get(name) ?? (first ? count : 0)))
    this.#queues = now
  }

  /** Packets that nftables of ours has dropped under that name on node `n`. */
  dropped(n: number, counter: string): number {
    const text = this.#run(
      `n${n}`,
      `nft list counters table inet ${counter.startsWith('pod_') ? 'pellicle_pods' : 'pellicle'}`,
    )
    return Number(new RegExp(`counter ${counter} \\{\\s*packets (\\d+)`).exec(text)?.[1] ?? 0)
  }

  /**
   * What tcpdump saw while `during` ran: its lines, and the bytes. On `br0` that is everything between the nodes. `more`:
   * flags of tcpdump, such as `-s128` where so much comes that whole packets would not fit its buffer.
   */
  async watch(
    where: string,
    device: string,
    during: () => unknown,
    ...more: readonly string[]
  ): Promise<{ readonly lines: string; readonly marked: boolean }> {
    const file = join(this.#folder, `${randomBytes(4).toString('hex')}.pcap`)
    const child = spawn(
      'ip',
      [
        'netns',
        'exec',
        this.path(where),
        'tcpdump',
        '-Z',
        'root',
        '-U',
        '-n',
        '--immediate-mode',
        ...more,
        '-i',
        device,
        '-w',
        file,
      ],
      {
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    )
    let said = ''
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    for (let tries = 0; !said.includes('listening on'); tries++) {
      if (tries > 3000 || child.exitCode !== null) throw new Error(`tcpdump does not start: ${said}`)
      await sleep(20)
    }
    try {
      await during()
      await sleep(150)
      await this.idle()
      // each packet is there for tcpdump at once: it has taken all when it waits for more
      while (!isIdle(child.pid ?? 0)) await sleep(5)
    } finally {
      const closed = once(child, 'close')
      child.kill('SIGTERM')
      await closed
    }
    const lines = execFileSync('tcpdump', ['-n', '-r', file], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      // seconds of streams are more than Node's own limit
      maxBuffer: 64 * 1024 * 1024,
    })
    return { lines, marked: readFileSync(file).includes(MARKER) }
  }

  async close(): Promise<void> {
    for (const node of this.#nodes) {
      await node.datapath.remove('cilium_wg0').catch(() => undefined)
      node.kernel.close()
      node.socket.close()
    }
    for (const child of this.#children) {
      if (child.exitCode !== null) continue
      const closed = once(child, 'close')
      child.kill('SIGTERM')
      await closed
    }
    for (const name of this.#namespaces) spawnSync('ip', ['netns', 'del', name])
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #namespace(name: string): void {
    execFileSync('ip', ['netns', 'add', this.path(name)])
    this.#namespaces.push(this.path(name))
    this.#run(name, 'ip link set lo up')
  }

  /** A machine on the wire. */
  #join(name: string, ...commands: readonly string[]): void {
    this.#namespace(name)
    this.#run('wire', `ip link add v-${name} type veth peer name eth0 netns ${this.path(name)}`)
    this.#run('wire', `ip link set v-${name} master br0 up`)
    this.#run(name, 'ip link set eth0 up')
    for (const command of commands) this.#run(name, command)
  }

  #run(name: string, command: string): string {
    return execFileSync('ip', ['netns', 'exec', this.path(name), ...command.split(' ')], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  }
}

interface Node {
  readonly n: number
  readonly kernel: HostKernel
  readonly socket: NetlinkSocket
  readonly datapath: UserspaceDatapath
  readonly privateKey: Uint8Array
  readonly publicKey: ReturnType<typeof publicKeyOf>
  esp?: FakeEsp | undefined
}

/** `dropped`: by full queues, while they ran. */
export function assertNothingLost(t: TestContext, streams: readonly Stream[], dropped: number): void {
  for (const { name, sent, lost } of streams) {
    t.diagnostic(`${name}: ${sent} sent, ${lost.length} lost; full queues dropped ${dropped}`)
    assert.ok(sent > 100)
    assert.ok(lost.length <= dropped, `${name}: lost ${lost.join(' ')} of ${sent}`)
  }
}

/** Takes lines out of our tables; a test fails when there is none such, so that it cannot go stale unseen. */
export function withoutLines(pattern: RegExp): Change {
  return (host) => {
    const tables = host.tables.map((table) => ({
      ...table,
      body: table.body
        .split('\n')
        .filter((line) => !pattern.test(line))
        .join('\n'),
    }))
    if (tables.every((table, index) => table.body === host.tables[index]?.body))
      throw new Error(`no line is like ${pattern}`)
    return { ...host, tables }
  }
}

export function both(...changes: readonly Change[]): Change {
  return (host) => changes.reduce((changed, change) => change(changed), host)
}

export const withoutBlackholes: Change = (host) => ({
  ...host,
  routes: host.routes.filter((route) => route.type !== 'blackhole'),
})
