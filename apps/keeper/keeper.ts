import { join } from 'node:path'
import type { EngineEvent } from '#core/engine/event.ts'
import type { EngineRequest } from '#core/engine/request.ts'
import { describeFault } from '#core/fault/fault.ts'
import { errnoOf } from '#core/uapi/errno.ts'
import { formatDevice } from '#core/uapi/format.ts'
import { formatHealth } from '#core/uapi/health.ts'
import { parseControlRequest } from '#core/uapi/parse.ts'
import type { DeviceChange } from '#core/wireguard/change.ts'
import type { Entropy, Now } from '#core/wireguard/clock.ts'
import { Device } from '#core/wireguard/device.ts'
import { wireguardCrypto } from '#io/crypto/wireguard-crypto.ts'
import { EngineClient, type EngineHello, type EngineState } from '#io/engine/engine-client.ts'
import type { Log } from '#io/telemetry/log.ts'
import { ControlServer } from '#io/uapi/control-server.ts'
import type { KeeperSettings } from './settings.ts'
import { Storage } from './storage.ts'

export interface KeeperPorts {
  readonly log: Log
  readonly now: () => Now
  readonly random: Entropy
  /** Binds other UDP sockets; gives the port. */
  readonly listen: (listenPort: number, mark: number) => Promise<number>
  /** Interface index by name or number. */
  readonly scopeOf: (name: string) => number | undefined
}

const SAVE_AFTER_MS = 1000
/** After a failure: a file system that is full will be so for a while. */
const SAVE_AGAIN_MS = 10_000
const BARRIER_MS = 10_000
const COUNTERS_MS = 2000
/** Until the engine says how many it has room for. */
const MAX_PEERS = 65_536

/**
 * One device's keeper: joins the pure {@link Device} to the engine's socket, the control socket, the clock and two files.
 * All state that matters is in the engine's memory and in the files, so being killed costs no packet.
 */
export class Keeper {
  readonly #settings: KeeperSettings
  readonly #ports: KeeperPorts
  readonly #storage: Storage
  readonly #engine: EngineClient
  readonly #control: ControlServer
  #device: Device
  #fresh = true
  #instance: string | undefined
  #timer: NodeJS.Timeout | undefined
  #timerAt = Number.POSITIVE_INFINITY
  #saveTimer: NodeJS.Timeout | undefined
  #savedRevision = 0
  #saving: Promise<void> = Promise.resolve()
  /** Why not; empty: it was saved. */
  #unsaved = ''
  #stopped = false
  #configuring: Promise<unknown> = Promise.resolve()
  #announceReady: () => void = () => undefined

  constructor(settings: KeeperSettings, ports: KeeperPorts) {
    this.#settings = settings
    this.#ports = ports
    const folder = join(settings.runDir, settings.device)
    this.#storage = new Storage(folder)
    this.#device = this.#newDevice(MAX_PEERS)
    const socket = settings.uapiFd ?? join(settings.uapiDir, `${settings.device}.sock`)
    this.#control = new ControlServer(socket, (text) => this.#operate(text))
    this.#engine = new EngineClient(join(folder, 'engine.sock'), {
      ready: (hello, state) => this.#reconcile(hello, state),
      event: (event) => this.#handle(event),
      refused: (request, status, text) => this.#refused(request, status, text),
      away: (error) => ports.log.info('engine away, reconnecting', { error: error && describeFault(error) }),
    })
  }

  /** Done when the engine has the saved configuration and the control socket answers. Rejects with a Fault. */
  async start(): Promise<void> {
    const { change, labels } = await this.#storage.load()
    const now = this.#ports.now()
    if (change !== undefined) {
      this.#device.configure(now, change, true)
      wipeKeys(change)
      for (const [key, saved] of labels) this.#device.peers.get(key)?.restoreLabels(saved)
    }
    // the supervisor has bound these already
    this.#device.listenPort = this.#settings.listenPort
    this.#device.mark = this.#settings.mark
    const ready = new Promise<void>((resolve) => {
      this.#announceReady = resolve
    })
    this.#engine.start()
    await ready
    await this.#control.listen()
    this.#ports.log.info('keeper ready', { device: this.#settings.device, peers: this.#device.peers.size })
  }

  /** The engine goes on without us. */
  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    clearTimeout(this.#saveTimer)
    await this.#control.close()
    this.#engine.close()
    await this.#save()
  }

  #newDevice(maxPeers: number): Device {
    return new Device({ crypto: wireguardCrypto, random: this.#ports.random, maxPeers })
  }

  #reconcile(hello: EngineHello, state: EngineState): void {
    const { log } = this.#ports
    this.#device.maxPeers = hello.maxPeers
    if (!this.#fresh && this.#instance !== hello.instance) {
      log.warn('the engine came back without its memory: all sessions begin anew', { pid: hello.pid })
    }
    log.info('engine connected', {
      pid: hello.pid,
      version: hello.version,
      peers: state.peers.length,
      sessions: state.sessions.length,
    })
    this.#device.reconcile(this.#ports.now(), state, this.#fresh)
    this.#fresh = false
    this.#instance = hello.instance
    this.#settle()
    this.#announceReady()
  }

  #handle(event: EngineEvent): void {
    this.#device.handleEvent(this.#ports.now(), event)
    this.#settle()
  }

  #refused(request: EngineRequest, status: string, text: string): void {
    // a session may end between our decision and the engine's
    const usual = status === 'absent' && (request.op === 'keepalive' || request.op === 'removeSession')
    const fields = { op: request.op, status, text }
    if (usual) this.#ports.log.debug('engine refused', fields)
    else this.#ports.log.error('engine refused', fields)
  }

  async #operate(text: string): Promise<string> {
    try {
      const request = parseControlRequest(text, this.#ports.scopeOf)
      if (request.op === 'get') return formatDevice(this.#device)
      if (request.op === 'health') {
        const counters = await this.#engine.counters(COUNTERS_MS).catch(() => ({}))
        return formatHealth(this.#device, counters, this.#ports.now())
      }
      const done = this.#configuring.then(() => this.#configure(request.change))
      this.#configuring = done.catch(() => undefined)
      await done
      return 'errno=0\n\n'
    } catch (error) {
      this.#ports.log.warn('configuration refused', { error: describeFault(error) })
      return `errno=${errnoOf(error)}\n\n`
    }
  }

  /** One after the other. Done when it holds for every later packet and is on disk. */
  async #configure(change: DeviceChange): Promise<void> {
    const { listenPort, mark, ...rest } = change
    this.#device.check(change)
    if (
      (listenPort ?? this.#device.listenPort) !== this.#device.listenPort ||
      (mark ?? this.#device.mark) !== this.#device.mark
    ) {
      const wanted = mark ?? this.#device.mark
      this.#device.listenPort = await this.#ports.listen(listenPort ?? this.#device.listenPort, wanted)
      this.#device.mark = wanted
    }
    this.#device.configure(this.#ports.now(), rest)
    wipeKeys(change)
    this.#settle()
    await Promise.all([this.#engine.barrier(BARRIER_MS), this.#save()])
  }

  /** After everything that happened: what the engine must know, when we must wake up, what is worth saving. */
  #settle(): void {
    for (let request = this.#device.poll(); request !== undefined; request = this.#device.poll()) {
      this.#engine.request(request)
    }
    this.#armTimer()
    if (this.#device.revision !== this.#savedRevision) this.#saveLater(SAVE_AFTER_MS)
  }

  #saveLater(ms: number): void {
    if (this.#saveTimer !== undefined) return
    this.#saveTimer = setTimeout(() => {
      this.#saveTimer = undefined
      this.#save().catch(() => undefined)
    }, ms)
  }

  #armTimer(): void {
    const deadline = this.#device.nextTimeout()
    if (deadline === undefined || deadline >= this.#timerAt) return
    clearTimeout(this.#timer)
    this.#timerAt = deadline
    // Node cuts to whole milliseconds: one more, or we would wake up just before the time
    const delay = Math.max(0, Math.ceil(deadline - this.#ports.now().monotonic))
    this.#timer = setTimeout(() => {
      this.#timerAt = Number.POSITIVE_INFINITY
      this.#device.handleTimeout(this.#ports.now())
      this.#settle()
    }, delay)
  }

  #save(): Promise<void> {
    const next = this.#saving.then(async () => {
      const { revision } = this.#device
      if (revision === this.#savedRevision) return
      try {
        await this.#storage.save(this.#device)
      } catch (error) {
        this.#notSaved(error)
        throw error
      }
      if (this.#unsaved !== '') this.#ports.log.info('saved again')
      this.#unsaved = ''
      this.#savedRevision = revision
    })
    this.#saving = next.catch(() => undefined)
    return next
  }

  /** Told once: packets go on, and only a keeper that is started again meanwhile would know less. */
  #notSaved(error: unknown): void {
    const why = describeFault(error)
    if (why !== this.#unsaved) this.#ports.log.error('cannot save', { error: why })
    this.#unsaved = why
    if (!this.#stopped) this.#saveLater(SAVE_AGAIN_MS)
  }
}

function wipeKeys(change: DeviceChange): void {
  if (change.privateKey instanceof Uint8Array) change.privateKey.fill(0)
  for (const { presharedKey } of change.peers) if (presharedKey instanceof Uint8Array) presharedKey.fill(0)
}
