import { type EngineEndpoint, sameEndpoint } from '#core/engine/endpoint.ts'
import { type Activity, type EngineEvent, NO_ACTIVITY, type ReplyStatus } from '#core/engine/event.ts'
import type { EngineRequest, Place, SetSession } from '#core/engine/request.ts'
import type { Ip } from '#core/ip/address.ts'
import { PrefixTable } from '#core/ip/prefix-table.ts'
import type { NoiseCrypto } from '#core/noise/crypto.ts'
import type { EngineDump } from '#core/wireguard/device.ts'
import type { PublicKey } from '#core/wireguard/key.ts'
import { buildData, parseMessage } from '#core/wireguard/message.ts'
import { parseIpPacket } from './ip-packet.ts'
import { ReplayWindow } from './replay-window.ts'
import type { VirtualClock } from './virtual-clock.ts'

/**
 * The engine of docs/protocol/engine.md as plainly as possible, in virtual time: what the keeper's half is tested against.
 * The real one is Rust and is tested with the same facts in namespaces.
 */
interface Session extends SetSession {
  sent: bigint
  readonly window: ReplayWindow
}

interface Slot {
  readonly publicKey: PublicKey
  endpoint: EngineEndpoint | undefined
  activity: Activity
  readonly places: Map<Place, Session>
  waiting: Uint8Array[]
  lastWanted: number
  reported: Activity
}

export interface ModelEngineHooks {
  transmit(message: Uint8Array, destination: EngineEndpoint): void
  report(event: EngineEvent): void
  deliver(packet: Uint8Array): void
}

const EMPTY = new Uint8Array(0)
const REPORT_EVERY = 250
const WAITING_PACKETS = 4096

export class ModelEngine {
  readonly drops = new Map<string, number>()
  readonly #clock: VirtualClock
  readonly #crypto: NoiseCrypto
  readonly #hooks: ModelEngineHooks
  readonly #slots = new Map<number, Slot>()
  readonly #routes = new PrefixTable<number>()
  #ticking = false

  constructor(clock: VirtualClock, crypto: NoiseCrypto, hooks: ModelEngineHooks) {
    this.#clock = clock
    this.#crypto = crypto
    this.#hooks = hooks
  }

  handle(request: EngineRequest): ReplyStatus {
    if (!('peer' in request)) {
      // setMacKey: here forged messages are left to the keeper, which checks as well
      if (request.op === 'send') this.#hooks.transmit(request.message, request.destination)
      else if (request.op === 'removeSession') return this.#removeSession(request.local)
      return 'done'
    }
    if (request.op === 'setPeer') {
      const old = this.#slots.get(request.peer)
      if (old !== undefined && old.publicKey !== request.publicKey) this.#removePeer(request.peer)
      const slot = this.#slots.get(request.peer)
      if (slot !== undefined) slot.endpoint = request.endpoint ?? slot.endpoint
      else {
        this.#slots.set(request.peer, {
          publicKey: request.publicKey,
          endpoint: request.endpoint,
          activity: NO_ACTIVITY,
          reported: NO_ACTIVITY,
          places: new Map(),
          waiting: [],
          lastWanted: 0,
        })
      }
      return 'done'
    }
    const slot = this.#slots.get(request.peer)
    if (slot === undefined) return 'absent'
    switch (request.op) {
      case 'removePeer':
        this.#removePeer(request.peer)
        break
      case 'allow':
        for (const prefix of request.prefixes) this.#routes.set(prefix, request.peer)
        break
      case 'disallow':
        for (const prefix of request.prefixes) {
          if (this.#routes.get(prefix) === request.peer) this.#routes.delete(prefix)
        }
        break
      case 'setSession':
        this.#setSession(slot, request)
        break
      case 'keepalive':
        return this.#sendOn(slot, EMPTY) ? 'done' : 'absent'
      case 'clearSessions':
        slot.places.clear()
        slot.waiting = []
        break
      case 'dropWaiting':
        slot.waiting = []
        break
      case 'setSending':
      case 'setReceiving':
      case 'removeAssociation':
        return 'malformed'
    }
    return 'done'
  }

  dump(): EngineDump {
    const slots = [...this.#slots]
    return {
      peers: slots.map(([peer, { publicKey, endpoint, activity }]) => ({ peer, publicKey, endpoint, activity })),
      sessions: slots.flatMap(([peer, slot]) =>
        [...slot.places].map(([place, { local, remote, role, born, sent, window }]) => {
          return { peer, place, local, remote, role, born, sent, received: window.next }
        }),
      ),
      allowed: slots.map(([peer]) => ({
        peer,
        prefixes: [...this.#routes.entries()].filter(([, owner]) => owner === peer).map(([prefix]) => prefix),
      })),
    }
  }

  /** A packet from the device. */
  sendPacket(packet: Uint8Array): void {
    const destination = parseIpPacket(packet)?.destination
    const peer = destination && this.#routes.lookup(destination)
    const slot = peer === undefined ? undefined : this.#slots.get(peer)
    if (slot === undefined || peer === undefined) return this.#drop('no peer')
    if (this.#sendOn(slot, packet)) {
      const session = slot.places.get('current')
      if (session?.role === 'initiator' && this.#age(session) >= 120_000) this.#want(peer, slot, 'old-sending')
      return undefined
    }
    slot.waiting.push(packet)
    if (slot.waiting.length > WAITING_PACKETS) slot.waiting.shift()
    this.#want(peer, slot, 'waiting')
    return undefined
  }

  handleDatagram(bytes: Uint8Array, source: EngineEndpoint, destination: Ip): void {
    const message = parseMessage(bytes)
    if (message === undefined) return this.#drop('malformed')
    if (message.type !== 'data') {
      const own = { ip: destination, port: 0, scope: 0 }
      return this.#hooks.report({ type: 'handshake', source, destination: own, ecn: 0, message: bytes })
    }
    for (const [peer, slot] of this.#slots) {
      for (const [place, session] of slot.places) {
        if (session.local === message.receiver) {
          return this.#receive(peer, slot, place, session, message.counter, message.packet, source)
        }
      }
    }
    return this.#drop('no session')
  }

  #receive(
    peer: number,
    slot: Slot,
    place: Place,
    session: Session,
    counter: bigint,
    sealed: Uint8Array,
    source: EngineEndpoint,
  ): void {
    if (this.#age(session) >= 180_000) return this.#drop('session too old')
    const plaintext = this.#crypto.open(session.receiveKey, counter, sealed, EMPTY)
    if (plaintext === undefined) return this.#drop('forged')
    if (!session.window.accept(counter)) return this.#drop('replayed')
    if (place === 'next') {
      this.#promote(slot)
      this.#hooks.report({ type: 'confirmed', peer, local: session.local })
      this.#flush(slot)
    }
    if (!sameEndpoint(slot.endpoint, source)) {
      slot.endpoint = source
      this.#hooks.report({ type: 'moved', peer, endpoint: source })
    }
    const now = this.#clock.now.monotonic
    const data = plaintext.length > 0
    slot.activity = {
      ...slot.activity,
      firstUnanswered: 0,
      firstUnacknowledged: data ? slot.activity.firstUnacknowledged || now : slot.activity.firstUnacknowledged,
      lastReceived: data ? now : slot.activity.lastReceived,
      lastAuthenticated: now,
      rxBytes: slot.activity.rxBytes + BigInt(sealed.length + 16),
    }
    this.#tick()
    if (session.role === 'initiator' && this.#age(session) >= 165_000) this.#want(peer, slot, 'old-receiving')
    if (!data) return undefined
    const inner = parseIpPacket(plaintext)
    if (inner === undefined || this.#routes.lookup(inner.source) !== peer) return this.#drop('wrong source')
    this.#hooks.deliver(inner.packet)
    return undefined
  }

  #sendOn(slot: Slot, packet: Uint8Array): boolean {
    const session = slot.places.get('current')
    if (session === undefined || this.#age(session) >= 180_000 || slot.endpoint === undefined) return false
    const padded = new Uint8Array(Math.ceil(packet.length / 16) * 16)
    padded.set(packet)
    const counter = session.sent++
    const message = buildData(session.remote, counter, this.#crypto.seal(session.sendKey, counter, padded, EMPTY))
    const now = this.#clock.now.monotonic
    slot.activity = {
      ...slot.activity,
      firstUnanswered: packet.length > 0 ? slot.activity.firstUnanswered || now : slot.activity.firstUnanswered,
      firstUnacknowledged: 0,
      lastSent: now,
      txBytes: slot.activity.txBytes + BigInt(message.length),
    }
    this.#tick()
    this.#hooks.transmit(message, slot.endpoint)
    return true
  }

  #setSession(slot: Slot, request: SetSession): void {
    const same = [...slot.places.values()].find(({ sendKey }) => Buffer.compare(sendKey, request.sendKey) === 0)
    const session = {
      ...request,
      sendKey: new Uint8Array(request.sendKey),
      receiveKey: new Uint8Array(request.receiveKey),
      sent: same?.sent ?? 0n,
      window: same?.window ?? new ReplayWindow(8192),
    }
    if (request.place === 'next') {
      slot.places.set('next', session)
      return
    }
    slot.places.delete('next')
    const old = slot.places.get('current')
    if (old !== undefined) slot.places.set('previous', old)
    slot.places.set('current', session)
    this.#flush(slot)
  }

  #promote(slot: Slot): void {
    const { places } = slot
    const [current, next] = [places.get('current'), places.get('next') as Session]
    places.delete('next')
    places.delete('previous')
    if (current !== undefined) places.set('previous', current)
    places.set('current', next)
  }

  #flush(slot: Slot): void {
    for (const packet of slot.waiting.splice(0)) this.#sendOn(slot, packet)
  }

  #removeSession(local: number): ReplyStatus {
    for (const { places } of this.#slots.values()) {
      for (const [place, session] of places) if (session.local === local && places.delete(place)) return 'done'
    }
    return 'absent'
  }

  #removePeer(peer: number): void {
    const prefixes = this.dump().allowed.find((allowed) => allowed.peer === peer)?.prefixes ?? []
    for (const prefix of prefixes) this.#routes.delete(prefix)
    this.#slots.delete(peer)
  }

  #want(peer: number, slot: Slot, reason: 'waiting' | 'old-sending' | 'old-receiving'): void {
    const now = this.#clock.now.monotonic
    if (now - slot.lastWanted < REPORT_EVERY) return
    slot.lastWanted = now
    this.#hooks.report({ type: 'wanted', peer, reason })
    // "while it holds": as long as packets wait
    if (reason === 'waiting') {
      this.#clock.after(REPORT_EVERY, () => {
        if (slot.waiting.length > 0 && this.#slots.get(peer) === slot) this.#want(peer, slot, reason)
      })
    }
  }

  #tick(): void {
    if (this.#ticking) return
    this.#ticking = true
    this.#clock.after(REPORT_EVERY, () => {
      this.#ticking = false
      const changed = [...this.#slots].filter(([, slot]) => slot.activity !== slot.reported)
      for (const [, slot] of changed) slot.reported = slot.activity
      const peers = changed.map(([peer, { activity }]) => ({ peer, activity }))
      if (peers.length > 0) this.#hooks.report({ type: 'activity', peers })
    })
  }

  #age(session: Session): number {
    return this.#clock.now.monotonic - session.born
  }

  #drop(reason: string): void {
    this.drops.set(reason, (this.drops.get(reason) ?? 0) + 1)
  }
}
