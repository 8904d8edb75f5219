import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Side, TunnelLab } from '#test/kit/tunnel-lab.ts'
import { limit, type Missing, WIREGUARD_MTU } from './contestant.ts'
import { type Ends, endsOf } from './ends.ts'
import { type EspShape, EspTunnel } from './esp.ts'
import type { Running, Start, WireguardProgram } from './programs.ts'
import { CharonTunnel } from './strongswan.ts'

const exec = promisify(execFile)

/**
 * What is done to a tunnel while packets go from end a to end b and back; whether it asks for a handshake between
 * processes that both live on.
 */
export const EVENTS = {
  none: { title: 'no event', handshake: false },
  engine: { title: 'engine killed', handshake: false },
  keeper: { title: 'keeper killed', handshake: false },
  sender: { title: 'all killed, a', handshake: false },
  receiver: { title: 'all killed, b', handshake: false },
  key: { title: 'new key of a', handshake: true },
  keyFirst: { title: 'b told last', handshake: true },
  psk: { title: 'new psk', handshake: true },
} as const

export type EventName = keyof typeof EVENTS

/** A tunnel, and what can be done to it. */
export interface Subject {
  readonly name: string
  readonly ours: boolean
  readonly ends: Ends
  readonly events: Partial<Record<EventName, () => Promise<void>>>
  /** Those of them that `--quick` has time for. */
  readonly quick: readonly EventName[]
  /** After an event from which it did not recover. */
  reset(): Promise<void>
  close(): Promise<void>
}

/**
 * Of an end that is started again: otherwise it says nothing until it is asked, and the other asks after 15 s. A change of
 * keys has to do without: it would hide what a peer does by itself.
 */
const KEEPALIVE = '25'
const PORT = 51871

export async function openWireguardSubject(program: WireguardProgram): Promise<Subject | Missing> {
  const start = await program.find()
  if (typeof start !== 'function') return start
  const lab = await TunnelLab.open(`bl${program.letter}`)
  const tunnel = new WireguardTunnel(lab, start)
  try {
    await tunnel.reset()
  } catch (error) {
    await lab.close()
    throw error
  }
  const { a, b } = lab
  const { name, ours } = program
  const parts = ours ? { engine: () => lab.killPart(a, 'engine'), keeper: () => lab.killPart(a, 'keeper') } : {}
  return {
    name,
    ours,
    ends: endsOf(lab, b.inner[4]),
    events: {
      none: async () => undefined,
      ...parts,
      sender: async () => await tunnel.restart(a),
      receiver: async () => await tunnel.restart(b),
      key: async () => await tunnel.newKey('first'),
      keyFirst: async () => await tunnel.newKey('last'),
      psk: async () => await tunnel.newPsk(),
    },
    quick: ['engine', 'keeper', 'sender', 'receiver', 'key'],
    reset: async () => await tunnel.reset(),
    close: async () => await lab.close(),
  }
}

export async function openEspSubject(shape: EspShape): Promise<Subject> {
  const tunnel = await EspTunnel.open(`bl${shape.letter}`, shape)
  const { lab } = tunnel
  const again = async (side: Side) => {
    await killAll(Object.values(await tunnel.processes(side)), tunnel.supervisor(side))
    await tunnel.start(side)
    await tunnel.join()
  }
  return {
    name: shape.name,
    ours: true,
    ends: endsOf(lab, tunnel.to),
    events: {
      none: async () => undefined,
      engine: async () => await lab.killPart(lab.a, 'engine'),
      sender: async () => await again(lab.a),
      receiver: async () => await again(lab.b),
      key: async () => await tunnel.rotate(),
    },
    quick: ['engine', 'key'],
    reset: async () => await tunnel.join(),
    close: async () => await tunnel[Symbol.asyncDispose](),
  }
}

/** Of its own accord only end a begins, so that end b is not killed. */
export async function openStrongswanSubject(): Promise<Subject | Missing> {
  const tunnel = await CharonTunnel.open('bls')
  if ('missing' in tunnel) return tunnel
  const { lab } = tunnel
  const again = async () => {
    await killAll([tunnel.at(lab.a).pid])
    await tunnel.start(lab.a)
    await tunnel.at(lab.a).established()
  }
  return {
    name: 'strongSwan libipsec',
    ours: false,
    ends: endsOf(lab, lab.b.inner[4]),
    events: {
      none: async () => undefined,
      sender: again,
      key: async () => {
        await tunnel.at(lab.a).swanctl('--rekey', '--child', 'net')
      },
    },
    quick: [],
    reset: again,
    close: async () => await tunnel[Symbol.asyncDispose](),
  }
}

/** Two ends with a WireGuard program each, and a script that starts one again: what people have who run one. */
class WireguardTunnel {
  readonly #lab: TunnelLab
  readonly #start: Start
  readonly #running = new Map<Side, Running>()
  /** End a's, which is changed. */
  #key: { readonly file: string; readonly open: string } | undefined
  #psk: string | undefined

  constructor(lab: TunnelLab, start: Start) {
    this.#lab = lab
    this.#start = start
  }

  /** Both ends as they were in the beginning; done when packets pass. */
  async reset(): Promise<void> {
    this.#key = undefined
    this.#psk = undefined
    for (const side of [this.#lab.a, this.#lab.b]) await this.restart(side)
    await this.#lab.run(this.#lab.a, 'ping', '-n', '-q', '-c', '1', '-w', '10', this.#lab.b.inner[4])
  }

  /** Everything of that end is killed, then started and configured. */
  async restart(side: Side): Promise<void> {
    const before = this.#running.get(side)
    if (before !== undefined) {
      const pids = await before.processes().catch(() => ({}))
      await killAll(Object.values(pids), before.first)
    }
    const { namespace, device, inner } = side
    // wg deletes the socket of one that is gone, and, when that has come back in between, the new one
    await rm(`/var/run/wireguard/${device}.sock`, { force: true })
    this.#running.set(side, await this.#start(this.#lab, side))
    // what of this has been done already (ours keeps its configuration) may be said again
    if (side === this.#lab.a && this.#key !== undefined) {
      await this.#lab.wg('set', device, 'private-key', this.#key.file)
    }
    await exec('ip', ['-n', namespace, 'link', 'set', device, 'up'])
    await exec('ip', ['-n', namespace, 'addr', 'replace', `${inner[4]}/24`, 'dev', device])
    await limit(namespace, device, WIREGUARD_MTU)
    await this.#introduce(side, KEEPALIVE)
  }

  /** End a has another private key, and b is told of it `first` or `last`. */
  async newKey(told: 'first' | 'last'): Promise<void> {
    const { a, b } = this.#lab
    const former = this.#publicKeyOf(a)
    const file = join(this.#lab.folder, `next-${a.device}`)
    const secret = (await exec('wg', ['genkey'])).stdout
    await writeFile(file, secret, { mode: 0o600 })
    const { stdout: open } = await exec('sh', ['-c', 'exec wg pubkey < "$1"', 'sh', file])
    this.#key = { file, open: open.trim() }
    const tell = async () => {
      await this.#lab.wg('set', b.device, 'peer', former, 'remove')
      await this.#introduce(b, 'off')
    }
    await this.#introduce(a, 'off')
    if (told === 'first') await tell()
    await this.#lab.wg('set', a.device, 'private-key', file)
    if (told === 'last') await tell()
  }

  async newPsk(): Promise<void> {
    this.#psk = join(this.#lab.folder, 'psk')
    await writeFile(this.#psk, (await exec('wg', ['genpsk'])).stdout, { mode: 0o600 })
    for (const side of [this.#lab.b, this.#lab.a]) await this.#introduce(side, 'off')
  }

  async #introduce(side: Side, keepalive: string): Promise<void> {
    const { a, b } = this.#lab
    const other = side === a ? b : a
    const psk = this.#psk === undefined ? [] : ['preshared-key', this.#psk]
    const how = ['endpoint', `${other.outer[4]}:${PORT}`, 'persistent-keepalive', keepalive]
    const allowed = ['allowed-ips', `${other.inner[4]}/32,${other.inner[6]}/128`]
    await this.#lab.wg('set', side.device, 'peer', this.#publicKeyOf(other), ...psk, ...how, ...allowed)
  }

  #publicKeyOf(side: Side): string {
    return side === this.#lab.a && this.#key !== undefined ? this.#key.open : side.publicKey
  }
}

/** `first`: the one whose end is waited for. */
async function killAll(pids: readonly number[], first?: Running['first']): Promise<void> {
  const alive = first !== undefined && first.exitCode === null && first.signalCode === null
  const ended = alive ? once(first, 'exit') : undefined
  for (const pid of pids) kill(pid)
  first?.kill('SIGKILL')
  await ended
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    // it has ended by itself
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
