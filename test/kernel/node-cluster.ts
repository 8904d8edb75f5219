import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Datapath } from '#core/datapath/datapath.ts'
import type { Mac } from '#core/ip/mac.ts'
import type { IpsecKey } from '#core/ipsec/key.ts'
import type { IpsecShape } from '#core/ipsec/shape.ts'
import { ipsecMtu } from '#core/plan/mtu.ts'
import { IPSEC_DEVICE, WIREGUARD_DEVICE } from '#core/plan/names.ts'
import { plan } from '#core/plan/plan.ts'
import { podNetwork } from '#core/plan/pod-network.ts'
import type { Peer, PlanConfig, Snapshot } from '#core/plan/snapshot.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { HostKernel } from '#io/kernel/host-kernel.ts'
import { KernelDatapath } from '#io/kernel/kernel-datapath.ts'
import { NetlinkSocket } from '#io/kernel/netlink-socket.ts'
import { inNetworkNamespace } from '#io/kernel/network-namespace.ts'
import { addPodDevice } from '#io/kernel/pod-device.ts'
import { UserspaceDatapath } from '#io/userspace/datapath.ts'
import {
  CONFIG,
  endpointOf,
  ipsecConfig,
  ipsecPeerOf,
  nodeIpsOf,
  ownIpsecOf,
  peerOf,
  snapshotOf,
} from '#test/kit/snapshots.ts'
import { until } from './esp-ends.ts'

/**
 * Whole nodes of both datapaths side by side: namespaces on a bridge, each with a pod, to which real plans are applied, with
 * the kernel's WireGuard and XFRM or with supervisor, keeper and engine behind them.
 */

export type Kind = 'kernel' | 'userspace'
/** `auto`: UDP where both ends are engines, else protocol 50. */
export type Mode = 'wireguard' | 'auto' | IpsecShape
/** tools/kernel/tests.ts makes it. */
const KEEPER = 'build/kernel-keeper.cjs'
const PREFIX = 'pk-nc'
const ENGINE = process.env['PELLICLE_ENGINE'] ?? 'engine/target/release/pellicle-engine'
/** Stands in each ping's payload; 16 bytes are what `ping -p` takes. */
const MARKER = 'PELLICLE-MARKER!'

interface Node {
  readonly n: number
  readonly kind: Kind
  readonly kernel: HostKernel
  readonly socket: NetlinkSocket
  readonly datapath: Datapath
  readonly privateKey: Uint8Array
  readonly publicKey: ReturnType<typeof publicKeyOf>
  bootId: string
}

export class NodeCluster {
  readonly #folder = mkdtempSync(join(tmpdir(), `${PREFIX}-`))
  readonly #nodes: Node[] = []
  readonly #children: ChildProcess[] = []
  readonly #namespaces: string[] = []

  static async make(kinds: readonly Kind[]): Promise<NodeCluster> {
    const cluster = new NodeCluster()
    try {
      cluster.#namespace('wire')
      cluster.run('wire', 'ip link add br0 type bridge')
      cluster.run('wire', 'ip link set br0 up')
      for (const [index, kind] of kinds.entries()) await cluster.#makeNode(index + 1, kind)
      return cluster
    } catch (error) {
      await cluster.close()
      throw error
    }
  }

  async #makeNode(n: number, kind: Kind): Promise<void> {
    const ips = nodeIpsOf(n)
    const name = `n${n}`
    this.#namespace(name)
    this.run('wire', `ip link add v-${name} type veth peer name eth0 netns ${path(name)}`)
    this.run('wire', `ip link set v-${name} master br0 up`)
    this.run(name, 'ip link set eth0 up')
    this.run(name, `ip addr add ${ips[4]}/16 dev eth0`)
    this.run(name, `ip addr add ${ips[6]}/64 dev eth0 nodad`)
    this.run(name, 'sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1')
    this.#namespace(`p${n}`)
    const folder = join(this.#folder, name)
    mkdirSync(join(folder, 'uapi'), { recursive: true })
    const datapath = kind === 'kernel' ? this.#kernel(name, folder) : await this.#userspace(name, folder)
    const { privateKey, publicKey } = generateKeyPairSync('x25519')
    const raw = (jwk: string | undefined) => new Uint8Array(Buffer.from(jwk ?? '', 'base64url'))
    const own = inside(name, () => ({ kernel: new HostKernel(), socket: new NetlinkSocket() }))
    this.#nodes.push({
      n,
      kind,
      ...own,
      datapath,
      privateKey: raw(privateKey.export({ format: 'jwk' }).d),
      publicKey: publicKeyOf(raw(publicKey.export({ format: 'jwk' }).x)),
      bootId: '',
    })
    const endpoint = endpointOf(n, 10)
    const hostMac = '0a:00:00:00:00:01' as Mac
    const network = podNetwork(snapshotOf(n, 3, [], { config: CONFIG }), { device: 'eth0', ips: endpoint.ips, hostMac })
    addPodDevice(own.socket, {
      namespace: `/var/run/netns/${path(`p${n}`)}`,
      hostName: endpoint.device,
      hostMac,
      podName: 'eth0',
      podMac: endpoint.mac,
      mtu: network.mtu,
      gsoMaxSize: network.gsoMaxSize ?? 65_536,
      addresses: network.addresses,
      routes: network.routes,
      neighbours: network.neighbours,
    })
  }

  #kernel(name: string, folder: string): Datapath {
    return new KernelDatapath({ namespace: `/run/netns/${path(name)}`, stateFolder: folder })
  }

  async #userspace(name: string, folder: string): Promise<Datapath> {
    const keeper = `${process.execPath} ${process.cwd()}/${KEEPER}`
    const args = ['supervise', '--run-dir', folder, '--uapi-dir', join(folder, 'uapi'), '--keeper-command', keeper]
    this.#children.push(spawn('ip', ['netns', 'exec', path(name), ENGINE, ...args], { stdio: 'ignore' }))
    const options = { supervisorSocket: join(folder, 'supervisor.sock'), controlFolder: join(folder, 'uapi') }
    const datapath = new UserspaceDatapath(options)
    await until('the supervisor answers', async () => (await datapath.probe()).usable)
    return datapath
  }

  /** All nodes closed, by that mode; `keys` received by, the last one sent by. */
  async be(mode: Mode, keys: readonly IpsecKey[] = [], send = keys.at(-1)): Promise<void> {
    if (mode !== 'wireguard') {
      for (const node of this.#nodes) {
        const snapshot = this.#snapshot(node, mode, keys, send)
        const { mark, encryption } = snapshot.config
        const rest = { mtu: ipsecMtu(snapshot), mark: mark.bits, udpPort: encryption.ipsec.port }
        node.bootId = (await node.datapath.openIpsec({ name: IPSEC_DEVICE, ...rest })).bootId
      }
    }
    for (const node of this.#nodes) {
      const made = plan(this.#snapshot(node, mode, keys, send))
      if (!made.usable) throw new Error(JSON.stringify(made.problems))
      const { host, wireguard, ipsec } = made
      if (wireguard !== undefined) await node.datapath.apply({ ...wireguard, privateKey: node.privateKey })
      if (ipsec !== undefined) await node.datapath.applyIpsec({ ...ipsec, keys })
      const report = inside(`n${node.n}`, () => node.kernel.apply(host))
      const wrong = [...report.failed.map(({ fault }) => fault), ...report.faults]
      if (wrong.length > 0) throw new AggregateError(wrong, wrong.map(({ message }) => message).join('\n'))
      if (wireguard === undefined) await node.datapath.remove(WIREGUARD_DEVICE)
      if (ipsec === undefined) await node.datapath.remove(IPSEC_DEVICE)
    }
  }

  #snapshot(node: Node, mode: Mode, keys: readonly IpsecKey[], send: IpsecKey | undefined): Snapshot {
    const refs = keys.map(({ id, fingerprint }) => ({ id, fingerprint }))
    const others = this.#nodes.filter((one) => one !== node)
    const byKernel = node.kind === 'kernel' ? ({ byKernel: true } as const) : {}
    if (mode === 'wireguard') {
      const peers = others.map(({ n, publicKey }) => peerOf(n, 3, { publicKeyText: publicKey }))
      const config: Partial<PlanConfig> = { encryption: { ...CONFIG.encryption, ...byKernel } }
      return snapshotOf(node.n, 3, peers, { config, self: { publicKey: node.publicKey } })
    }
    const peers = others.map(({ n, kind, bootId }): Peer => {
      const by = kind === 'kernel' ? ({ byKernel: true } as const) : {}
      return ipsecPeerOf(n, 3, { bootId: bootId || NO_BOOT_ID, ...by }, refs)
    })
    const ref = refs.find(({ id }) => id === send?.id) ?? refs[0]
    const ipsec = {
      ...ownIpsecOf(node.n, peers, refs),
      bootId: node.bootId,
      ...(ref === undefined ? {} : { sendBy: Object.fromEntries(peers.map(({ name }) => [name, ref])) }),
    }
    const { encryption } = ipsecConfig(mode === 'auto' ? 'udp' : mode, byKernel)
    const config =
      mode === 'auto' ? { ...encryption, ipsec: { ...encryption.ipsec, udpByEngines: true as const } } : encryption
    return snapshotOf(node.n, 3, peers, { config: { encryption: config }, self: { ipsec } })
  }

  datapath(n: number): Datapath {
    const node = this.#nodes[n - 1]
    if (node === undefined) throw new RangeError(`there is no node ${n}`)
    return node.datapath
  }

  /** Of node `n`'s pod. */
  podOf(n: number, family: 4 | 6): string {
    return endpointOf(n, 10).ips[family] ?? ''
  }

  run(where: string, command: string): string {
    return execFileSync('ip', ['netns', 'exec', path(where), ...command.split(' ')], { encoding: 'utf8' })
  }

  /** How many of `count` pings with the marker are answered. */
  ping(where: string, target: string, count = 3, ...more: string[]): number {
    const { stdout } = spawnSync('ip', this.#pingArguments(where, target, ['-c', `${count}`, ...more]), {
      encoding: 'utf8',
    })
    return Number(/ (\d+) received/.exec(stdout)?.[1] ?? Number.NaN)
  }

  /** Until it is stopped; what was lost then is a number. */
  stream(where: string, target: string): () => Promise<{ readonly sent: number; readonly lost: number }> {
    const child = spawn('ip', this.#pingArguments(where, target, []), { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#children.push(child)
    let said = ''
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    return async () => {
      const closed = once(child, 'close')
      child.kill('SIGINT')
      await closed
      const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(said) ?? []
      if (sent === undefined) throw new Error(`ping said: ${said}`)
      return { sent: Number(sent), lost: Number(sent) - Number(received) }
    }
  }

  #pingArguments(where: string, target: string, more: readonly string[]): string[] {
    const pattern = Buffer.from(MARKER).toString('hex')
    // a busy machine may take its time, and WireGuard's next handshake does (5 s)
    const how = ['-n', '-q', '-i', '0.02', '-W', '30', '-s', '64', '-p', pattern]
    return ['netns', 'exec', path(where), 'ping', ...how, ...more, target]
  }

  /** How many bytes of a stream of TCP arrive: super packets, the tunnel's MTU, the way back. */
  async tcp(from: string, to: string, address: string, bytes: number): Promise<number> {
    const server = `use IO::Socket::IP; my $s = IO::Socket::IP->new(LocalAddr => "${address}", LocalPort => 5001, Listen => 1) or die;
      $| = 1; print "ready\\n"; my $c = $s->accept; my $n = 0; while (my $r = sysread($c, my $b, 65536)) { $n += $r } print "$n\\n"`
    const child = spawn('ip', ['netns', 'exec', path(to), 'perl', '-e', server], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.#children.push(child)
    let said = ''
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    await until('the listener is there', () => said.includes('ready'))
    const client = `head -c ${bytes} /dev/zero >/dev/tcp/${address}/5001`
    const sender = spawn('ip', ['netns', 'exec', path(from), 'timeout', '60', 'bash', '-c', client], {
      stdio: 'ignore',
    })
    this.#children.push(sender)
    await until('all has arrived', () => /ready\n\d+\n/.test(said) || sender.exitCode === 124)
    return Number(/ready\n(\d+)\n/.exec(said)?.[1] ?? 0)
  }

  /** What tcpdump saw between the nodes while `during` ran, and whether the marker was in it. */
  async watch(during: () => Promise<void>): Promise<{ readonly lines: string; readonly marked: boolean }> {
    const file = join(this.#folder, 'wire.pcap')
    const how = ['-Z', 'root', '-U', '-n', '--immediate-mode', '-i', 'br0', '-w', file]
    const child = spawn('ip', ['netns', 'exec', path('wire'), 'tcpdump', ...how], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    this.#children.push(child)
    let said = ''
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    await until('tcpdump listens', () => said.includes('listening on'))
    try {
      await during()
    } finally {
      const closed = once(child, 'close')
      child.kill('SIGTERM')
      await closed
    }
    const lines = execFileSync('tcpdump', ['-n', '-r', file], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    return { lines, marked: readFileSync(file).includes(MARKER) }
  }

  /** Packets that our tables of node `n` have dropped, by counter. */
  drops(n: number): Record<string, number> {
    const node = this.#nodes[n - 1]
    const all = node === undefined ? {} : inside(`n${n}`, () => node.kernel.tables.counters())
    return Object.fromEntries(Object.entries(all).filter(([, count]) => count > 0))
  }

  /** What somebody needs who looks for why. Without keys. */
  async diagnose(): Promise<string> {
    const parts = this.#nodes.map(async ({ n, kind, datapath }) => {
      const { counters, text } = inside(`n${n}`, () => ({
        counters: readFileSync('/proc/thread-self/net/xfrm_stat', 'utf8'),
        text: ['rule', '-4 route show table 201', '-d link show'].map((what) => this.run(`n${n}`, `ip ${what}`)),
      }))
      const state = await datapath.observeIpsec(IPSEC_DEVICE)
      const said = { drops: this.drops(n), peers: state?.peers, associations: state?.associations }
      const errors = counters.split('\n').filter((line) => !/\s0$/.test(line))
      const numbers = (_: string, value: unknown) => (typeof value === 'bigint' ? Number(value) : value)
      return [`== node ${n}, ${kind}`, JSON.stringify(said, numbers, 1), ...errors, ...text].join('\n')
    })
    return (await Promise.all(parts)).join('\n')
  }

  async close(): Promise<void> {
    for (const { kernel, socket, datapath } of this.#nodes) {
      for (const device of [WIREGUARD_DEVICE, IPSEC_DEVICE]) await datapath.remove(device).catch(() => undefined)
      await datapath.close()
      kernel.close()
      socket.close()
    }
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      const closed = once(child, 'close')
      child.kill('SIGTERM')
      const force = setTimeout(() => child.kill('SIGKILL'), 10_000)
      await closed
      clearTimeout(force)
    }
    for (const name of this.#namespaces) spawnSync('ip', ['netns', 'del', name])
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #namespace(name: string): void {
    execFileSync('ip', ['netns', 'add', path(name)])
    this.#namespaces.push(path(name))
    this.run(name, 'ip link set lo up')
  }
}

/** Nobody's: only what the plan says of this node alone is looked at while it stands there. */
const NO_BOOT_ID = '00000000-0000-4000-8000-000000000000'

function path(name: string): string {
  return `${PREFIX}-${name}`
}

function inside<T>(name: string, run: () => T): T {
  return inNetworkNamespace(`/run/netns/${path(name)}`, run)
}
