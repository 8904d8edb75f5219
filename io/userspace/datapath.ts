import { dirname, join } from 'node:path'
import type {
  Datapath,
  IpsecDevice,
  IpsecOpened,
  IpsecSettings,
  IpsecState,
  ProbeResult,
  WireguardDevice,
  WireguardState,
} from '#core/datapath/datapath.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import { HEALTH_OPERATION, type Health, parseHealth } from '#core/uapi/health.ts'
import { type PublicKey, publicKeyOf } from '#core/wireguard/key.ts'
import { wireguardCrypto } from '#io/crypto/wireguard-crypto.ts'
import { IpsecLink } from './ipsec-link.ts'
import { exchange } from './line-socket.ts'
import { SupervisorClient } from './supervisor.ts'
import { diffUapi } from './uapi-diff.ts'
import { formatEndpoint, parseGet, parseSetAnswer, type UapiDevice } from './uapi-text.ts'

export interface UserspaceOptions {
  /** The supervisor's socket. */
  readonly supervisorSocket?: string
  /** Folder of the WireGuard control sockets. */
  readonly controlFolder?: string
  readonly timeoutMs?: number
  /** Called when a device of IPsec may have lost what was applied: its engine was started again. */
  readonly changed?: () => void
}

/**
 * The userspace datapath: devices by the supervisor, keys and peers by the keeper's WireGuard control socket, those of
 * IPsec by the engine's own. It keeps nothing that could not be asked again, so an agent may start anew at any time.
 */
export class UserspaceDatapath implements Datapath {
  readonly kind = 'userspace'
  readonly #supervisor: SupervisorClient
  readonly #controlFolder: string
  readonly #timeoutMs: number
  /** Where the supervisor's devices have their folders: beside its socket. */
  readonly #runFolder: string
  readonly #changed: () => void
  readonly #links = new Map<string, IpsecLink>()
  /** What each peer was told to be reached by, so that roaming is not undone. */
  readonly #endpoints = new Map<PublicKey, string>()

  constructor(options: UserspaceOptions = {}) {
    this.#timeoutMs = options.timeoutMs ?? 30_000
    this.#changed = options.changed ?? (() => undefined)
    const socket = options.supervisorSocket ?? '/run/pellicle/supervisor.sock'
    this.#runFolder = dirname(socket)
    this.#supervisor = new SupervisorClient(socket, this.#timeoutMs)
    this.#controlFolder = options.controlFolder ?? '/var/run/wireguard'
  }

  async probe(): Promise<ProbeResult> {
    try {
      await this.#supervisor.status()
      return { usable: true }
    } catch (error) {
      const remedy = error instanceof Fault ? error.remedy : undefined
      const missing = error instanceof Fault ? error.message : describeFault(error)
      return { usable: false, missing, remedy: remedy ?? 'See the log of DaemonSet pellicle-keeper.' }
    }
  }

  async apply(device: WireguardDevice): Promise<void> {
    const { name, mtu, listenPort, mark } = device
    await this.#supervisor.addDevice({ kind: 'wireguard', name, mtu, listenPort, mark })
    const lines = diffUapi(device, await this.#get(name), this.#endpoints)
    if (lines.length > 0) parseSetAnswer(await this.#control(name, `set=1\n${lines.join('\n')}\n\n`))
    this.#endpoints.clear()
    for (const { publicKey, endpoint } of device.peers) this.#endpoints.set(publicKey, formatEndpoint(endpoint))
  }

  async observe(name: string): Promise<WireguardState | undefined> {
    if ((await this.#kindOf(name)) !== 'wireguard') return undefined
    const [{ privateKeyHex, listenPort, peers: told }, health] = [await this.#get(name), await this.#health(name)]
    if (privateKeyHex === undefined) return undefined
    const publicKey = publicKeyOf(wireguardCrypto.importKey(Buffer.from(privateKeyHex, 'hex')).publicKey)
    const peers = told.map((peer) => {
      const unansweredSince = health?.unanswered.get(peer.publicKey)
      return unansweredSince === undefined ? peer : { ...peer, unansweredSince }
    })
    return { name, publicKey, listenPort, peers }
  }

  async openIpsec({ name, mtu, mark, udpPort }: IpsecSettings): Promise<IpsecOpened> {
    await this.#supervisor.addDevice({ kind: 'ipsec', name, mtu, listenPort: udpPort, mark, up: false })
    return await this.#link(name).open()
  }

  async applyIpsec(device: IpsecDevice): Promise<void> {
    const { name, mtu, mark, udpPort } = device
    await this.#supervisor.addDevice({ kind: 'ipsec', name, mtu, listenPort: udpPort, mark, up: false })
    const link = this.#link(name)
    try {
      await link.apply(device)
    } finally {
      // told as any other engine that begins anew: whoever applies then opens it again. In vain: tried after the next one
      if (await link.isWornOut()) await this.#supervisor.renewDevice(name).catch(() => false)
    }
  }

  async observeIpsec(name: string): Promise<IpsecState | undefined> {
    return (await this.#kindOf(name)) === 'ipsec' ? await this.#link(name).state() : undefined
  }

  async counters(name: string): Promise<Readonly<Record<string, number>>> {
    const link = this.#links.get(name)
    if (link !== undefined) return await link.counters()
    return (await this.#health(name))?.counters ?? {}
  }

  async remove(name: string): Promise<void> {
    this.#links.get(name)?.close()
    this.#links.delete(name)
    await this.#supervisor.removeDevice(name)
    this.#endpoints.clear()
  }

  async close(): Promise<void> {
    for (const link of this.#links.values()) link.close()
    this.#links.clear()
  }

  /** Undefined: there is no such device. A supervisor that says no kind knows only one. */
  async #kindOf(name: string): Promise<string | undefined> {
    const { devices } = await this.#supervisor.status()
    const device = devices.find((one) => one.name === name)
    return device === undefined ? undefined : (device.kind ?? 'wireguard')
  }

  #link(name: string): IpsecLink {
    const there = this.#links.get(name)
    if (there !== undefined) return there
    const path = join(this.#runFolder, name, 'engine.sock')
    const made = new IpsecLink(name, path, this.#timeoutMs, () => this.#changed())
    this.#links.set(name, made)
    return made
  }

  async #get(name: string): Promise<UapiDevice> {
    return parseGet(await this.#control(name, 'get=1\n\n'))
  }

  /** Undefined from a keeper of an earlier release. */
  async #health(name: string): Promise<Health | undefined> {
    return parseHealth(await this.#control(name, `${HEALTH_OPERATION}\n\n`))
  }

  async #control(name: string, text: string): Promise<string> {
    const path = join(this.#controlFolder, `${name}.sock`)
    try {
      return await exchange(path, text, (answer) => answer.endsWith('\n\n'), this.#timeoutMs)
    } catch (error) {
      throw new Fault('datapath.keeper.away', `the keeper of ${name} does not answer at ${path}`, {
        field: path,
        remedy: 'The supervisor starts it again by itself; its log is that of DaemonSet pellicle-keeper.',
        cause: error,
      })
    }
  }
}
