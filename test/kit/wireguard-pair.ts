import type { EngineEndpoint } from '#core/engine/endpoint.ts'
import type { EngineEvent } from '#core/engine/event.ts'
import type { EngineRequest } from '#core/engine/request.ts'
import { type Ip, requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import type { NoiseCrypto } from '#core/noise/crypto.ts'
import type { DeviceChange, PeerChange } from '#core/wireguard/change.ts'
import type { Now } from '#core/wireguard/clock.ts'
import { Device } from '#core/wireguard/device.ts'
import { type PublicKey, publicKeyOf } from '#core/wireguard/key.ts'
import type { Labels } from '#core/wireguard/labels.ts'
import { type Message, parseMessage } from '#core/wireguard/message.ts'
import type { Peer } from '#core/wireguard/peer.ts'
import { wireguardCrypto as crypto } from '#io/crypto/wireguard-crypto.ts'
import { buildIpPacket, parseIpPacket } from './ip-packet.ts'
import { ModelEngine } from './model-engine.ts'
import { seededRandom } from './seeded-random.ts'
import { VirtualClock } from './virtual-clock.ts'

export interface Datagram {
  readonly at: number
  readonly from: EngineEndpoint
  readonly to: EngineEndpoint
  readonly bytes: Uint8Array
  readonly message: Message | undefined
}

/** Milliseconds until each copy arrives; none: lost. */
export type Fate = (datagram: Datagram, index: number) => readonly number[]

const LATENCY = 5

/** A network between nodes in virtual time. The eavesdropper sees every datagram, and says what becomes of it. */
export class Wire {
  readonly clock = new VirtualClock()
  readonly seen: Datagram[] = []
  /** Every key and counter that data was sealed by, of all nodes. */
  readonly sealed = new Set<string>()
  /** Those of them that were used twice. */
  readonly reused: string[] = []
  fate: Fate = () => [LATENCY]
  readonly #nodes: Node[] = []

  join(node: Node): void {
    this.#nodes.push(node)
  }

  send(from: EngineEndpoint, to: EngineEndpoint, bytes: Uint8Array): void {
    const datagram = {
      at: this.clock.now.monotonic,
      from,
      to,
      bytes: new Uint8Array(bytes),
      message: parseMessage(bytes),
    }
    this.seen.push(datagram)
    for (const delay of this.fate(datagram, this.seen.length - 1)) {
      this.clock.after(delay, () => this.inject(datagram.bytes, from, to))
    }
  }

  /** Also for what an attacker sends. */
  inject(bytes: Uint8Array, from: EngineEndpoint, to: EngineEndpoint): void {
    const node = this.#nodes.find(({ endpoint }) => endpoint.ip === to.ip && endpoint.port === to.port)
    node?.receive(bytes, from)
  }

  types(): string[] {
    return this.seen.map(({ message }) => message?.type ?? 'malformed')
  }

  count(type: Message['type']): number {
    return this.types().filter((t) => t === type).length
  }
}

/** Keeper's half and a model of the engine. */
export class Node {
  readonly wire: Wire
  readonly inner: Ip
  endpoint: EngineEndpoint
  device: Device
  engine: ModelEngine
  readonly received: Uint8Array[] = []
  readonly requests: EngineRequest[] = []
  readonly privateKey: Uint8Array
  readonly publicKey: PublicKey
  readonly #random
  /** False: the keeper is dead. */
  alive = true
  /** Milliseconds by which this node's wall clock is wrong. */
  clockError = 0

  constructor(wire: Wire, seed: number, outer: string, inner: string) {
    this.wire = wire
    this.#random = seededRandom(seed)
    this.privateKey = this.#random(32)
    this.publicKey = publicKeyOf(crypto.importKey(this.privateKey).publicKey)
    this.endpoint = { ip: requireIp(outer, 'outer'), port: 51871, scope: 0 }
    this.inner = requireIp(inner, 'inner')
    this.device = this.#newDevice()
    this.engine = this.#newEngine()
    wire.join(this)
    this.configure({ privateKey: this.privateKey, replacePeers: false, peers: [] })
  }

  configure(change: DeviceChange, restored = false): void {
    this.device.configure(this.now, change, restored)
    this.settle()
  }

  get now(): Now {
    const { monotonic, unix } = this.wire.clock.now
    return { monotonic, unix: unix + this.clockError }
  }

  /** The machine boots: of device and engine nothing is left but the key. Whom it knows is to be said again. */
  reboot(): void {
    this.device = this.#newDevice()
    this.engine = this.#newEngine()
    this.configure({ privateKey: this.privateKey, replacePeers: false, peers: [] })
  }

  /** The usual way to know the other: its inner address, and where it is. */
  know(other: Node, change: Partial<PeerChange> = {}): void {
    const prefix = requireCidr(`${other.inner}/${other.inner.includes(':') ? 128 : 32}`, 'inner')
    const peer = {
      publicKey: other.publicKey,
      remove: false,
      updateOnly: false,
      endpoint: other.endpoint,
      replaceAllowedIps: true,
      allowedIps: [{ prefix, remove: false }],
      ...change,
    }
    this.configure({ replacePeers: false, peers: [peer] })
  }

  peer(other: Node): Peer {
    const peer = this.device.peers.get(other.publicKey)
    if (peer === undefined) throw new TypeError('no such peer')
    return peer
  }

  send(other: Node, text: string, source: Ip = this.inner): void {
    this.engine.sendPacket(buildIpPacket(source, other.inner, new TextEncoder().encode(text)))
  }

  texts(): string[] {
    return this.received.map((packet) => {
      const header = parseIpPacket(packet)?.source.includes(':') === true ? 40 : 20
      return new TextDecoder().decode(packet.subarray(header))
    })
  }

  receive(bytes: Uint8Array, from: EngineEndpoint): void {
    this.engine.handleDatagram(bytes, from, this.endpoint.ip)
  }

  handle(event: EngineEvent): void {
    if (!this.alive) return
    this.device.handleEvent(this.now, event)
    this.settle()
  }

  /** What a keeper saves. */
  labels(): ReadonlyMap<PublicKey, Labels> {
    return new Map(
      [...this.device.peers].map(([key, { lastReceivedLabel: received, lastSentLabel: sent }]) => [
        key,
        { received, sent },
      ]),
    )
  }

  /** The keeper dies and a new one reads the same configuration and what was saved; the engine goes on. */
  restartKeeper(down: number, change: DeviceChange, saved?: ReadonlyMap<PublicKey, Partial<Labels>>): void {
    this.alive = false
    const received = [...this.labels()].map(([key, labels]) => [key, { received: labels.received }] as const)
    this.wire.clock.after(down, () => {
      this.alive = true
      this.device = this.#newDevice()
      this.device.configure(this.now, change, true)
      for (const [key, labels] of saved ?? received) this.device.peers.get(key)?.restoreLabels(labels)
      this.device.reconcile(this.now, this.engine.dump(), true)
      this.settle()
    })
  }

  /** What the keeper's loop does after every event. */
  settle(): void {
    for (let request = this.device.poll(); request !== undefined; request = this.device.poll()) {
      this.requests.push(request)
      this.engine.handle(request)
    }
    const deadline = this.device.nextTimeout()
    if (deadline === undefined) return
    const { device } = this
    this.wire.clock.at(deadline, () => {
      if (!this.alive || this.device !== device || device.nextTimeout() !== deadline) return
      device.handleTimeout(this.now)
      this.settle()
    })
  }

  #newDevice(): Device {
    return new Device({ crypto, random: this.#random, maxPeers: 64 })
  }

  #newEngine(): ModelEngine {
    const { sealed, reused } = this.wire
    const watched: NoiseCrypto = {
      ...crypto,
      seal: (key, counter, plaintext, data) => {
        const use = `${Buffer.from(key).toString('hex')} ${counter}`
        if (sealed.has(use)) reused.push(use)
        sealed.add(use)
        return crypto.seal(key, counter, plaintext, data)
      },
    }
    return new ModelEngine(this.wire.clock, watched, {
      transmit: (message, destination) => this.wire.send(this.endpoint, destination, message),
      report: (event) => this.handle(event),
      deliver: (packet) => this.received.push(packet),
    })
  }
}

/** Alice and Bob who know each other, on a wire of their own. */
export function wireguardPair(change: Partial<PeerChange> = {}): { wire: Wire; alice: Node; bob: Node } {
  const wire = new Wire()
  const alice = new Node(wire, 1, '192.0.2.1', '10.0.0.1')
  const bob = new Node(wire, 2, '192.0.2.2', '10.0.0.2')
  alice.know(bob, change)
  bob.know(alice, change)
  return { wire, alice, bob }
}
