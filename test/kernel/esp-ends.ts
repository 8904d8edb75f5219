import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { accessSync, constants, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { EngineKeys } from '#core/engine/association.ts'
import type { EngineRequest } from '#core/engine/request.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { ipsecMtu } from '#core/plan/mtu.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { EngineClient } from '#io/engine/engine-client.ts'
import { inNetworkNamespace } from '#io/kernel/network-namespace.ts'
import { ipsecConfig, snapshotOf } from '#test/kit/snapshots.ts'
import { skipTo } from './engine-counter.ts'
import {
  copyOf,
  type Direction,
  type Family,
  INNER,
  type Numbers,
  OUTER,
  type Outside,
  outerOf,
  type PairOfKeys,
  PORT,
  SPI,
} from './esp-shape.ts'
import { batch, numbersOf, policies, stateText } from './ip-xfrm.ts'
import { drops, ip } from './tunnels.ts'

/**
 * Two ends of an ESP tunnel in two network namespaces: `ours` is the engine below its supervisor, as a node has it;
 * `theirs` is XFRM of the kernel, told by iproute2's `ip xfrm`, which knows nothing of our codecs.
 */

const OURS = 'pk-iop-ours'
const THEIRS = 'pk-iop-theirs'
const ENGINE = process.env['PELLICLE_ENGINE'] ?? 'engine/target/release/pellicle-engine'
const DEVICE = 'pk-iop'
/** As a node has it where ESP goes in UDP over IPv6: every algorithm's packets fit the network. */
export const DEVICE_MTU = ipsecMtu(snapshotOf(1, 0, [], { config: ipsecConfig('udp') }))
/** Of the echo at their end. */
const ECHO = 7007
const TIMEOUT = 60_000
const PEER = 0
type End = 'ours' | 'theirs'

/** What this machine lacks for it; undefined: nothing. */
export function missingForEnds(): string | undefined {
  try {
    accessSync(ENGINE)
  } catch {
    return `needs the engine at ${ENGINE} (cargo build --release in engine/)`
  }
  const folders = (process.env['PATH'] ?? '').split(':')
  const there = (name: string) => folders.some((folder) => executable(join(folder, name)))
  const missing = ['bash', 'ip', 'ping', 'perl'].filter((name) => !there(name))
  return missing.length === 0 ? undefined : `needs ${missing.join(', ')}`
}

/**
 * Their end's programs. A socket of UDP_ENCAP_ESPINUDP on either family, as an IKE daemon has it: without it the kernel takes
 * no ESP in UDP. And an echo by TCP. Perl, since Node has no such option and every Debian has Perl.
 *
 * SO_TIMESTAMP, as ping has it, patches the kernel's receive path while packets go through it; two emulated processors
 * do not always agree on that, and the guest panics (seen once). With a socket that keeps it, nothing is patched.
 */
const THEIR_PROGRAM = `use Socket; $SIG{CHLD} = "IGNORE"; my @sockets;
setpgrp; $SIG{TERM} = sub { $SIG{TERM} = "IGNORE"; kill "TERM", -getpgrp(0); exit };
for my $family (AF_INET, AF_INET6) {
  my $any = sub { $family == AF_INET ? sockaddr_in($_[0], INADDR_ANY) : sockaddr_in6($_[0], Socket::IN6ADDR_ANY) };
  socket(my $udp, $family, SOCK_DGRAM, 17) or die "socket: $!";
  socket(my $tcp, $family, SOCK_STREAM, 6) or die "socket: $!";
  for my $socket ($udp, $tcp) {
    setsockopt($socket, 41, 26, pack("i", 1)) or die "IPV6_V6ONLY: $!" if $family == AF_INET6;
    push @sockets, $socket;
  }
  setsockopt($udp, 17, 100, pack("i", 2)) or die "UDP_ENCAP: $!";
  setsockopt($udp, 1, 29, pack("i", 1)) or die "SO_TIMESTAMP: $!";
  bind($udp, $any->(${PORT})) or die "bind: $!";
  bind($tcp, $any->(${ECHO})) or die "bind: $!";
  listen($tcp, 8) or die "listen: $!";
  next if fork;
  while (accept(my $client, $tcp)) {
    next if fork;
    while (sysread($client, my $bytes, 65536)) { syswrite($client, $bytes) }
    exit;
  }
}
$| = 1; print "ready"; sleep;`

export class EspEnds {
  readonly #folder = mkdtempSync(join(tmpdir(), 'pk-iop-'))
  readonly #children: ChildProcess[] = []
  #engine: EngineClient | undefined
  #outside: Outside = { encapsulation: 'none', family: 4 }

  /** @throws when one of the two cannot be had; what was made until then is gone. */
  static async open(): Promise<EspEnds> {
    const ends = new EspEnds()
    try {
      await ends.#open()
      return ends
    } catch (error) {
      await ends.close()
      throw error
    }
  }

  async #open(): Promise<void> {
    for (const name of [OURS, THEIRS]) {
      ip('netns', 'add', name)
      ip('-n', name, 'link', 'set', 'lo', 'up')
    }
    ip('link', 'add', 'eth0', 'netns', OURS, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', THEIRS)
    for (const [side, name] of [OURS, THEIRS].entries()) {
      batch(name, [
        `addr add ${OUTER[4][side]}/24 dev eth0`,
        `addr add ${OUTER[6][side]}/64 dev eth0 nodad`,
        'link set eth0 up',
      ])
    }
    this.#start(OURS, ENGINE, [
      'supervise',
      '--run-dir',
      this.#folder,
      '--max-peers',
      '64',
      '--device',
      `name=${DEVICE},kind=ipsec,mtu=${DEVICE_MTU},port=${PORT},mark=0xe00`,
    ])
    const engine = new EngineClient(join(this.#folder, DEVICE, 'engine.sock'), {
      ready: () => undefined,
      event: () => undefined,
      refused: () => undefined,
      away: () => undefined,
    })
    this.#engine = engine
    engine.start()
    await engine.barrier(TIMEOUT)
    const [ours4, ours6] = [INNER[4][0], INNER[6][0]]
    const [theirs4, theirs6] = [INNER[4][1], INNER[6][1]]
    batch(OURS, [
      `link set ${DEVICE} up`,
      `addr add ${ours4}/32 dev ${DEVICE}`,
      `addr add ${ours6}/128 dev ${DEVICE} nodad`,
      `route add ${theirs4}/32 dev ${DEVICE} src ${ours4}`,
      `route add ${theirs6}/128 dev ${DEVICE} src ${ours6}`,
    ])
    batch(THEIRS, [
      `addr add ${theirs4}/32 dev lo`,
      `addr add ${theirs6}/128 dev lo nodad`,
      `route add ${ours4}/32 via ${OUTER[4][0]} dev eth0 src ${theirs4}`,
      `route add ${ours6}/128 via ${OUTER[6][0]} dev eth0 src ${theirs6}`,
    ])
    await said(this.#start(THEIRS, 'perl', ['-e', THEIR_PROGRAM]), 'ready')
  }

  async close(): Promise<void> {
    this.#engine?.close()
    await Promise.all(this.#children.map(ended))
    for (const name of [OURS, THEIRS]) if (readdirSync('/run/netns').includes(name)) ip('netns', 'del', name)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /**
   * Both ends forget whom they knew, and get these keys; each direction goes on behind its number. Done when the first
   * dummy packet of ours, which comes before the kernel has a state for it, was dropped there.
   */
  async connect(outside: Outside, keys: PairOfKeys, last: Numbers): Promise<void> {
    this.#outside = outside
    batch(THEIRS, ['xfrm state flush', 'xfrm policy flush', ...policies(outside.family)])
    const before = await this.#dummies()
    const publicKey = publicKeyOf(randomBytes(32))
    await this.#ask({ op: 'setPeer', peer: PEER, publicKey, endpoint: undefined })
    const prefixes = [requireCidr(`${INNER[4][1]}/32`, 'test'), requireCidr(`${INNER[6][1]}/128`, 'test')]
    await this.#ask({ op: 'allow', peer: PEER, prefixes })
    await this.#receiveBy(keys.in)
    await this.#sendBy(keys.out)
    await until('the first dummy packet has arrived', async () => {
      const { sent, arrived } = await this.#dummies()
      return sent > before.sent && arrived - before.arrived === sent - before.sent
    })
    this.skipTo(keys.out, last.out)
    batch(THEIRS, [stateText('out', outside, keys.out, last.out), stateText('in', outside, keys.in, last.in)])
  }

  /** Those of ours, and what came to the kernel that has no state for it (as datagrams where it may drop them uncounted). */
  async #dummies(): Promise<{ sent: number; arrived: number }> {
    const { encapsulation, family } = this.#outside
    const datagrams = encapsulation === 'udp' && family === 6
    const arrived = datagrams ? udp6Datagrams() : (this.drops()['XfrmInNoStates'] ?? 0)
    return { sent: (await this.counters())['keepalivesSent'] ?? 0, arrived }
  }

  async #sendBy(keys: EngineKeys): Promise<void> {
    const { encapsulation, family } = this.#outside
    const outer = outerOf(family, 'out')
    const rest = { encapsulation, port: PORT, outer, keys: copyOf(keys) }
    await this.#ask({ op: 'setSending', peer: PEER, spi: SPI.out, ...rest })
  }

  async #receiveBy(keys: EngineKeys): Promise<void> {
    await this.#ask({
      op: 'setReceiving',
      peer: PEER,
      spi: SPI.in,
      outer: outerOf(this.#outside.family, 'in'),
      keys: copyOf(keys),
    })
  }

  /** The kernel's state of that direction (as we see it) is made anew. */
  replaceState(direction: Direction, keys: EngineKeys, last: bigint): void {
    const { source, destination } = outerOf(this.#outside.family, direction)
    batch(THEIRS, [
      `xfrm state delete src ${source} dst ${destination} proto esp spi ${SPI[direction]}`,
      stateText(direction, this.#outside, keys, last),
    ])
  }

  /** The engine's counter of what it has sent. */
  skipTo(keys: EngineKeys, last: bigint): void {
    skipTo(this.#children[0]?.pid ?? 0, keys.encryption, last)
  }

  /** As the kernel says them. */
  stateNumbers(): Numbers {
    return numbersOf(ip('-n', THEIRS, '-s', 'xfrm', 'state', 'list'))
  }

  /** As the engine says them. */
  async numbers(): Promise<Numbers> {
    const { associations } = await this.#client.dump(TIMEOUT)
    const of = (direction: Direction) => associations.find((one) => one.direction === direction)?.sequence
    const [out, back] = [of('out'), of('in')]
    if (out === undefined || back === undefined) throw new Error('the engine lacks an association')
    return { out, in: back }
  }

  async counters(): Promise<Record<string, number>> {
    return await this.#client.counters(TIMEOUT)
  }

  /** Of the kernel, at their end. */
  drops(): Record<string, number> {
    return drops({ name: THEIRS })
  }

  /** How many of `count` were answered; a busy machine may take its time. `more`: other arguments of ping. */
  async ping(from: End, family: Family, count: number, ...more: string[]): Promise<number> {
    const how = ['-n', '-q', '-c', `${count}`, '-i', '0.02', '-W', '30', ...more]
    const { stdout } = await this.#run(from, 'ping', [...how, INNER[family][from === 'ours' ? 1 : 0]])
    return Number(/ (\d+) received/.exec(stdout)?.[1] ?? Number.NaN)
  }

  /**
   * What comes back of what is sent by TCP from our end to the echo at theirs: each byte has gone both ways. Done when
   * nothing of it is on its way any more.
   */
  async echo(family: Family, bytes: Buffer): Promise<Buffer> {
    const script = 'exec 3<>"/dev/tcp/$1/$2" 4<&0; cat <&4 >&3 & head -c "$3" <&3'
    const args = ['-c', script, 'bash', INNER[family][1], `${ECHO}`, `${bytes.length}`]
    const child = inside(OURS, () => spawn('bash', args, { stdio: ['pipe', 'pipe', 'inherit'] }))
    const chunks: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
    child.stdin.on('error', () => undefined)
    child.stdin.end(bytes)
    // what the shell started may outlive it and hold the pipe open
    const late = setTimeout(() => child.stdout.destroy(), TIMEOUT)
    await new Promise((resolve) => child.stdout.once('close', resolve))
    clearTimeout(late)
    await until('no connection is open', () => [OURS, THEIRS].every((name) => !connected(name)))
    return Buffer.concat(chunks)
  }

  /** The same of IPv4 pings that nobody should answer: as many are sent, and not waited for. */
  async unanswered(from: End, count: number, ...more: string[]): Promise<number> {
    return await this.ping(from, 4, count, '-W', '0.1', ...more)
  }

  /** Of the network at both ends, or of the engine's device. */
  setMtu(what: 'network' | 'device', mtu: number): void {
    const link = what === 'network' ? 'eth0' : DEVICE
    for (const name of what === 'network' ? [OURS, THEIRS] : [OURS])
      ip('-n', name, 'link', 'set', link, 'mtu', `${mtu}`)
  }

  /** Says what ping says, also when nothing was answered. */
  async pingText(from: End, family: Family, ...more: string[]): Promise<string> {
    const { stdout, stderr } = await this.#run(from, 'ping', ['-n', ...more, INNER[family][from === 'ours' ? 1 : 0]])
    return stdout + stderr
  }

  async #run(end: End, program: string, args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
    const name = end === 'ours' ? OURS : THEIRS
    return await new Promise((resolve) => {
      // what it exits with says nothing that its words do not
      const done = (_: unknown, stdout: string, stderr: string) => resolve({ stdout, stderr })
      inside(name, () => execFile(program, [...args], { timeout: TIMEOUT }, done))
    })
  }

  get #client(): EngineClient {
    if (this.#engine === undefined) throw new Error('not open')
    return this.#engine
  }

  async #ask(request: EngineRequest): Promise<void> {
    const { status, text } = await this.#client.ask(request, TIMEOUT)
    if (status !== 'done') throw new Error(`the engine refused ${request.op}: ${status} ${text}`)
  }

  #start(namespace: string, program: string, args: readonly string[]): ChildProcess {
    const child = inside(namespace, () => spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] }))
    this.#children.push(child)
    return child
  }
}

/** A child is born where its parent's thread is: half the programs to start that `ip netns exec` needs. */
function inside<T>(name: string, run: () => T): T {
  return inNetworkNamespace(`/run/netns/${name}`, run)
}

/** @throws after a minute: an emulated machine is slow, and nothing here is measured. */
export async function until(what: string, done: () => Promise<boolean> | boolean): Promise<void> {
  const end = performance.now() + TIMEOUT
  while (!(await done())) {
    if (performance.now() > end) throw new Error(`never: ${what}`)
    await sleep(5)
  }
}

async function said(child: ChildProcess, text: string): Promise<void> {
  let all = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    all += chunk.toString()
  })
  await until(`a program says ${text}`, () => {
    if (child.exitCode !== null) throw new Error(`${child.spawnfile} ended with ${child.exitCode}`)
    return all.includes(text)
  })
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  const force = setTimeout(() => child.kill('SIGKILL'), 10_000)
  await exit
  clearTimeout(force)
}

/** Whether a connection of TCP is neither over (06: TIME_WAIT) nor yet to come (0A: LISTEN). */
function connected(namespace: string): boolean {
  const tables = inside(namespace, () =>
    ['tcp', 'tcp6'].map((name) => readFileSync(`/proc/thread-self/net/${name}`, 'utf8')),
  )
  const states = tables.flatMap((text) => Array.from(text.matchAll(/^ *\d+: \S+ \S+ (\S+)/gm), ([, state]) => state))
  return states.some((state) => state !== '06' && state !== '0A')
}

function udp6Datagrams(): number {
  const text = inside(THEIRS, () => readFileSync('/proc/thread-self/net/snmp6', 'utf8'))
  return Number(/^Udp6InDatagrams\s+(\d+)$/m.exec(text)?.[1] ?? Number.NaN)
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
