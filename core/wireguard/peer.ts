import { type EngineEndpoint, sameEndpoint } from '#core/engine/endpoint.ts'
import {
  type Activity,
  type DumpedPeer,
  type DumpedSession,
  NO_ACTIVITY,
  type WantedReason,
} from '#core/engine/event.ts'
import type { EngineRequest, Place, Role } from '#core/engine/request.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import type { WireguardCrypto } from '#core/noise/crypto.ts'
import {
  type Identity,
  type InitiationWritten,
  type StaticRead,
  type TransportKeys,
  writeInitiation,
} from '#core/noise/ikpsk2.ts'
import type { Entropy, Now } from './clock.ts'
import {
  HANDSHAKE_TOS,
  INITIATION_INTERVAL,
  KEEPALIVE_TIMEOUT,
  MAX_JITTER,
  REJECT_AFTER_TIME,
  REKEY_AFTER_TIME,
  REKEY_ATTEMPT_TIME,
  REKEY_ON_RECEIVE,
  REKEY_TIMEOUT,
  ZERO_KEYS_AFTER,
} from './constants.ts'
import { MacSigner } from './cookie.ts'
import type { IndexTable } from './index-table.ts'
import { KEY_BYTES, type PublicKey, publicKeyBytes } from './key.ts'
import { buildInitiation, buildResponse, type Message } from './message.ts'
import { type Session, Sessions } from './sessions.ts'
import { compareTai64n, TAI64N_BYTES, tai64nAfter, tai64nOf } from './tai64n.ts'
import { Timers } from './timers.ts'

/** What a peer needs of its device. */
export interface PeerContext {
  readonly crypto: WireguardCrypto
  readonly random: Entropy
  readonly indices: IndexTable<Peer>
  /** Undefined while the device has no private key. */
  readonly identity: Identity | undefined
  emit(request: EngineRequest): void
  /** The timers of this peer changed. */
  changed(peer: Peer): void
  /** Its endpoint or its labels changed, which should outlive this process. */
  worthSaving(): void
}

/** What became of a handshake message, for counters. */
export type Verdict = 'taken' | 'no-key' | 'unknown' | 'forged' | 'replayed' | 'flood' | 'cookie-sent' | 'malformed'

interface Handshake {
  readonly local: number
  readonly state: InitiationWritten
}

const NO_PSK = new Uint8Array(KEY_BYTES)
const NOTHING = new Uint8Array(0)

/**
 * One peer of a WireGuard device, without I/O: handshakes, rekeying and keepalives of the paper's sections 5.4 and 6.
 * The packets are the engine's; it reports what the timers need (docs/protocol/engine.md).
 *
 * - commands: `setEndpoint`, `setPsk`, `setPersistentKeepalive`, `setIdentity`, `adopt`, `remove`
 * - `handle…(now, …)`: what happened. `now.monotonic` must not go back.
 * - outputs go to `context.emit` in the order in which the engine must get them; `timers.next()` is when
 *   `handleTimeout` wants to be called, early calls do nothing.
 *
 * One long file on purpose: every event touches handshake, sessions and timers together, and the paper's section 6 is read beside it.
 */
export class Peer {
  readonly publicKey: PublicKey
  /** In the engine. Only the device changes it, before anything named it. */
  slot: number
  readonly allowedIps = new Set<Cidr>()
  readonly timers = new Timers()
  readonly sessions: Sessions
  endpoint: EngineEndpoint | undefined
  activity: Activity = NO_ACTIVITY
  /** Milliseconds since 1970; undefined: never. */
  lastHandshake: number | undefined
  /** Greatest TAI64N label taken from this peer: survives restarts, or an old initiation could be replayed. */
  lastReceivedLabel: Uint8Array = new Uint8Array(TAI64N_BYTES)
  /** And the last one sent to it: the peer refuses an earlier one after our clock was set back, and calls us instead. */
  lastSentLabel: Uint8Array = new Uint8Array(TAI64N_BYTES)
  readonly #context: PeerContext
  readonly #publicKey: Uint8Array
  readonly #signer: MacSigner
  #staticStatic: Uint8Array | undefined
  #psk: Uint8Array = NO_PSK
  #persistentKeepalive = 0
  #handshake: Handshake | undefined
  /** When the first of the attempts began that have not led to a session. */
  #failingSince: number | undefined
  /** When the attempt that is under way began. */
  #attemptBegan: number | undefined
  #lastHandshakeSent = Number.NEGATIVE_INFINITY
  #lastInitiationTaken = Number.NEGATIVE_INFINITY
  /** When the new-handshake timer last went off: data sent later arms it again. */
  #newHandshakeFired = 0
  /** The `firstUnacknowledged` that a passive keepalive has answered. */
  #passiveAnswered = 0

  constructor(context: PeerContext, publicKey: PublicKey, slot: number) {
    this.#context = context
    this.publicKey = publicKey
    this.slot = slot
    this.#publicKey = publicKeyBytes(publicKey)
    this.#signer = new MacSigner(context.crypto, this.#publicKey)
    this.sessions = new Sessions((local) => context.indices.release(local))
    this.#staticStatic = context.identity?.static.exchange(this.#publicKey)
  }

  /** Static-static, once per peer and private key. A point of low order never gets a handshake. */
  setIdentity(identity: Identity | undefined): void {
    this.#staticStatic?.fill(0)
    this.#staticStatic = identity?.static.exchange(this.#publicKey)
    this.#failingSince = undefined
    // what was sent by the former key does not make the first call by this one wait, as in Linux
    this.#lastHandshakeSent = Number.NEGATIVE_INFINITY
    this.#dropHandshake()
  }

  /** Also makes the peer known to the engine. */
  setEndpoint(endpoint: EngineEndpoint | undefined): void {
    this.endpoint = endpoint
    this.#emitPeer()
  }

  /** Undefined: none. It works from the next handshake on, which is begun at once when there is a session to follow. */
  setPsk(now: Now, psk: Uint8Array | undefined): void {
    this.#psk.fill(0)
    this.#psk = psk === undefined ? NO_PSK : new Uint8Array(psk)
    const inFlight = this.#handshake !== undefined
    this.#dropHandshake()
    if (inFlight || this.#aliveSession(now) !== undefined) this.#initiate(now)
  }

  get hasPsk(): boolean {
    return this.#psk !== NO_PSK
  }

  /** The live bytes, all zero for none: for the control socket and the configuration file. */
  get psk(): Uint8Array {
    return this.#psk
  }

  /** Monotonic: since when data or handshakes have had no answer; undefined: nothing is unanswered. */
  get unansweredSince(): number | undefined {
    const { firstUnanswered } = this.activity
    if (firstUnanswered === 0) return this.#failingSince
    return Math.min(firstUnanswered, this.#failingSince ?? firstUnanswered)
  }

  /** Seconds, 0 is off. */
  get persistentKeepalive(): number {
    return this.#persistentKeepalive / 1000
  }

  /** Turning it on sends one at once, as Linux does; not when a configuration is `restored`. */
  setPersistentKeepalive(now: Now, seconds: number, restored = false): void {
    const wasOff = this.#persistentKeepalive === 0
    this.#persistentKeepalive = seconds * 1000
    this.#armPersistentKeepalive(Math.max(this.activity.lastSent, now.monotonic - (restored ? seconds * 1000 : 0)))
    if (wasOff && seconds > 0 && !restored) this.#keepalive(now)
    this.#context.changed(this)
  }

  /** A handshake before there is anything to send, where there is no session. */
  greet(now: Now): void {
    if (this.endpoint !== undefined && this.#aliveSession(now) === undefined) this.#initiate(now)
  }

  /**
   * What a running engine knows of this peer. With `fresh` we have just started and take everything over; else the engine
   * was started again, and what it has lost of ours begins anew.
   */
  adopt(now: Now, dumped: DumpedPeer, sessions: readonly DumpedSession[], fresh: boolean): void {
    if (fresh && dumped.endpoint !== undefined) this.endpoint = dumped.endpoint
    const kept: (readonly [Place, Session])[] = []
    for (const { local, remote, role, born, place } of sessions) {
      if (fresh || this.sessions.has(local)) kept.push([place, { local, remote, role, born }])
      else this.#context.emit({ op: 'removeSession', local })
      if (fresh) this.#context.indices.adopt(local, this)
    }
    const lost = this.sessions.replace(kept)
    const { current, next } = this.sessions
    const born = Math.max(current?.born ?? 0, next?.born ?? 0)
    if (fresh && current !== undefined) this.lastHandshake = now.unix - (now.monotonic - current.born)
    if (born > 0) this.timers.set('zeroKeys', born + ZERO_KEYS_AFTER)
    this.handleActivity(now, dumped.activity)
    if (!sameEndpoint(this.endpoint, dumped.endpoint)) this.#emitPeer()
    if (lost) this.#initiate(now)
  }

  /** TAI64N labels from before a restart. */
  restoreLabels(labels: { readonly received?: Uint8Array; readonly sent?: Uint8Array }): void {
    this.lastReceivedLabel = labels.received ?? this.lastReceivedLabel
    this.lastSentLabel = labels.sent ?? this.lastSentLabel
  }

  /**
   * The engine knows nothing of this peer (any more): its sessions are gone, which the other side does not know. With
   * `fresh` we do not know of any either, but labels tell that there were some.
   */
  restart(now: Now, fresh = false): void {
    const spoke = [this.lastReceivedLabel, this.lastSentLabel].some((label) => label.some((byte) => byte !== 0))
    const lost = this.sessions.replace([]) || (fresh && spoke)
    this.activity = NO_ACTIVITY
    if (lost) this.#initiate(now)
    this.#context.changed(this)
  }

  /** All sessions and the handshake under way; the peer itself stays. */
  clearSessions(): void {
    this.#dropHandshake()
    this.#attemptBegan = undefined
    this.sessions.clear()
    this.timers.clear('retry')
    this.timers.clear('zeroKeys')
    this.#context.emit({ op: 'clearSessions', peer: this.slot })
    this.#context.changed(this)
  }

  /** Ends this object; the caller tells the engine. */
  remove(): void {
    this.#dropHandshake()
    this.sessions.clear()
    this.timers.clearAll()
    this.#staticStatic?.fill(0)
    if (this.#psk !== NO_PSK) this.#psk.fill(0)
  }

  /** A packet waits, or the session is getting old. */
  handleWanted(now: Now, reason: WantedReason): void {
    const session = this.sessions.current
    const age = session === undefined ? Number.POSITIVE_INFINITY : now.monotonic - session.born
    // said before the engine knew of the session that was just made
    if (age < 1000) return
    const initiator = session?.role !== 'responder'
    switch (reason) {
      case 'waiting':
        break
      case 'old-sending':
        // a responder renews only by count, which the engine reports long before the age
        if (!initiator && age >= REKEY_AFTER_TIME) return
        break
      case 'old-receiving':
        if (!initiator || age < REKEY_ON_RECEIVE) return
        break
    }
    this.#initiate(now)
  }

  handleActivity(now: Now, activity: Activity): void {
    this.activity = activity
    const { firstUnacknowledged, firstUnanswered, lastSent } = activity
    if (firstUnacknowledged === 0) this.timers.clear('passiveKeepalive')
    else if (firstUnacknowledged !== this.#passiveAnswered) {
      this.timers.set('passiveKeepalive', firstUnacknowledged + KEEPALIVE_TIMEOUT)
    }
    if (firstUnanswered === 0) this.timers.clear('newHandshake')
    else if (lastSent > this.#newHandshakeFired) {
      const since = Math.max(firstUnanswered, this.#newHandshakeFired)
      this.timers.setIfUnset('newHandshake', since + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + this.#jitter())
    }
    this.#armPersistentKeepalive(
      Math.max(lastSent, activity.lastAuthenticated, now.monotonic - this.#persistentKeepalive),
    )
    this.#context.changed(this)
  }

  /** The first packet came on the session that we made as responder. */
  handleConfirmed(now: Now, local: number): void {
    if (this.sessions.confirm(local)) this.#complete(now)
  }

  /** The engine learnt a new endpoint from a data packet, and answers there already. */
  handleMoved(endpoint: EngineEndpoint): void {
    if (endpoint.port === 0) return
    this.endpoint = endpoint
    this.#context.worthSaving()
  }

  /** The second half of reading an initiation: the static key in it is this peer's. */
  handleInitiation(
    now: Now,
    read: StaticRead,
    sender: number,
    from: EngineEndpoint,
    to: EngineEndpoint | undefined,
  ): Verdict {
    if (this.#staticStatic === undefined) return 'no-key'
    const opened = read.readPayload(this.#staticStatic)
    if (opened === undefined || opened.payload.length !== TAI64N_BYTES) return 'forged'
    const order = compareTai64n(opened.payload, this.lastReceivedLabel)
    if (order <= 0) {
      opened.next.wipe()
      if (order < 0) this.#callBack(now)
      return 'replayed'
    }
    if (now.monotonic - this.#lastInitiationTaken < INITIATION_INTERVAL) {
      opened.next.wipe()
      return 'flood'
    }
    const ephemeral = this.#ephemeral()
    const response = opened.next.writeResponse(ephemeral, this.#psk, NOTHING)
    if (response === undefined) return 'forged'
    this.lastReceivedLabel = new Uint8Array(opened.payload)
    this.#context.worthSaving()
    this.#lastInitiationTaken = now.monotonic
    this.#move(from)
    // Both began at once: if each dropped its own session for the other's there would be none, so the smaller key gives way.
    if (this.#handshake !== undefined && this.#ownKeyIsSmaller()) this.#dropHandshake()

    const local = this.#context.indices.allocate(this)
    const bytes = buildResponse(local, sender, response.message)
    this.#signer.sign(now.monotonic, bytes)
    this.sessions.setNext(this.#emitSession(now, 'responder', local, sender, response.keys))
    this.#lastHandshakeSent = now.monotonic
    this.timers.set('zeroKeys', now.monotonic + ZERO_KEYS_AFTER)
    this.#armPersistentKeepalive(now.monotonic)
    this.#context.emit({ op: 'send', source: to, destination: from, tos: HANDSHAKE_TOS, message: bytes })
    this.#context.changed(this)
    return 'taken'
  }

  handleResponse(now: Now, message: Message & { type: 'response' }, from: EngineEndpoint): Verdict {
    const handshake = this.#handshake
    if (handshake === undefined || handshake.local !== message.receiver) return 'unknown'
    const response = handshake.state.readResponse(message.noise, this.#psk)
    if (response === undefined || response.payload.length !== 0) return 'forged'
    this.#handshake = undefined
    this.#move(from)
    this.sessions.setCurrent(this.#emitSession(now, 'initiator', handshake.local, message.sender, response.keys))
    // The responder may send only when it has had a packet on the session: this one, or what waited.
    this.#context.emit({ op: 'keepalive', peer: this.slot })
    this.timers.set('zeroKeys', now.monotonic + ZERO_KEYS_AFTER)
    this.#complete(now)
    return 'taken'
  }

  /** Never moves the endpoint: a cookie reply is not authenticated by the peer's private key. */
  handleCookie(now: Now, message: Message & { type: 'cookie' }): Verdict {
    return this.#signer.handleReply(now.monotonic, message.nonce, message.cookie) ? 'taken' : 'forged'
  }

  handleTimeout(now: Now): void {
    const { monotonic } = now
    if (this.timers.takeExpired('zeroKeys', monotonic)) this.clearSessions()
    if (this.timers.takeExpired('retry', monotonic)) this.#retry(now)
    if (this.timers.takeExpired('newHandshake', monotonic)) {
      this.#newHandshakeFired = monotonic
      this.#initiate(now)
    }
    if (this.timers.takeExpired('passiveKeepalive', monotonic)) {
      this.#passiveAnswered = this.activity.firstUnacknowledged
      this.#context.emit({ op: 'keepalive', peer: this.slot })
    }
    if (this.timers.takeExpired('persistentKeepalive', monotonic)) this.#keepalive(now)
  }

  /** Begins a handshake now, or as soon as the last one is old enough. */
  #initiate(now: Now): void {
    if (this.#context.identity === undefined || this.#staticStatic === undefined || this.endpoint === undefined) return
    // an attempt that is under way keeps its own pace, however often it is asked for
    if (this.timers.get('retry') !== undefined) return
    this.#attemptBegan ??= now.monotonic
    this.#failingSince ??= now.monotonic
    if (now.monotonic - this.#lastHandshakeSent < REKEY_TIMEOUT) {
      this.timers.setIfUnset('retry', this.#lastHandshakeSent + REKEY_TIMEOUT + this.#jitter())
    } else {
      this.#sendInitiation(now, this.#context.identity, this.#staticStatic, this.endpoint)
    }
    this.#context.changed(this)
  }

  /**
   * An initiation of this peer's that is older than the last one: played again by somebody, or the peer's clock was set
   * back and it has forgotten what it had sent. That cannot be told apart, and the peer would be refused until its clock has
   * caught up, so it is called instead, at the address that is known: our labels are later than any that it has seen. Who
   * plays messages again and reads what we send learns which address the peer has now, and gains a handshake a quarter of a
   * minute (to a peer that does not answer an initiation every 5 s): one that has just been heard by a young session is not
   * called.
   */
  #callBack(now: Now): void {
    const session = this.#aliveSession(now)
    const heard = Math.max(session?.born ?? 0, this.activity.lastAuthenticated)
    const isWell =
      session !== undefined &&
      now.monotonic - session.born < REKEY_AFTER_TIME &&
      now.monotonic - heard < KEEPALIVE_TIMEOUT + REKEY_TIMEOUT
    if (!isWell) this.#initiate(now)
  }

  #sendInitiation(now: Now, identity: Identity, staticStatic: Uint8Array, endpoint: EngineEndpoint): void {
    this.#dropHandshake()
    const clock = tai64nOf(now.unix)
    const label = compareTai64n(clock, this.lastSentLabel) > 0 ? clock : tai64nAfter(this.lastSentLabel)
    const { crypto, indices } = this.#context
    const remote = { publicKey: this.#publicKey, staticStatic }
    const written = writeInitiation(crypto, identity, remote, this.#ephemeral(), label)
    if (written === undefined) return
    this.lastSentLabel = label
    this.#context.worthSaving()
    this.#handshake = { local: indices.allocate(this), state: written.next }
    const bytes = buildInitiation(this.#handshake.local, written.message)
    this.#signer.sign(now.monotonic, bytes)
    this.#lastHandshakeSent = now.monotonic
    this.timers.set('retry', now.monotonic + REKEY_TIMEOUT + this.#jitter())
    this.#armPersistentKeepalive(now.monotonic)
    this.#context.emit({ op: 'send', source: undefined, destination: endpoint, tos: HANDSHAKE_TOS, message: bytes })
  }

  #retry(now: Now): void {
    if (this.#attemptBegan === undefined || now.monotonic - this.#attemptBegan < REKEY_ATTEMPT_TIME) {
      this.#initiate(now)
      return
    }
    this.#dropHandshake()
    this.#attemptBegan = undefined
    this.timers.setIfUnset('zeroKeys', now.monotonic + ZERO_KEYS_AFTER)
    this.#context.emit({ op: 'dropWaiting', peer: this.slot })
    this.#context.changed(this)
  }

  /** A session is there and both sides know it. */
  #complete(now: Now): void {
    this.#dropHandshake()
    this.#attemptBegan = undefined
    this.#failingSince = undefined
    this.timers.clear('retry')
    this.timers.clear('newHandshake')
    this.#armPersistentKeepalive(now.monotonic)
    this.lastHandshake = now.unix
    this.#context.changed(this)
  }

  #keepalive(now: Now): void {
    if (this.#aliveSession(now) === undefined) this.#initiate(now)
    else this.#context.emit({ op: 'keepalive', peer: this.slot })
    this.#armPersistentKeepalive(now.monotonic)
    this.#context.changed(this)
  }

  #aliveSession(now: Now): Session | undefined {
    const session = this.sessions.current
    return session !== undefined && now.monotonic - session.born < REJECT_AFTER_TIME ? session : undefined
  }

  #armPersistentKeepalive(lastTraffic: number): void {
    if (this.#persistentKeepalive === 0) this.timers.clear('persistentKeepalive')
    else this.timers.set('persistentKeepalive', lastTraffic + this.#persistentKeepalive)
  }

  #emitSession(now: Now, role: Role, local: number, remote: number, keys: TransportKeys) {
    const session = { local, remote, role, born: now.monotonic }
    const place = role === 'initiator' ? 'current' : 'next'
    this.#context.emit({
      op: 'setSession',
      peer: this.slot,
      place,
      ...session,
      sendKey: keys.send,
      receiveKey: keys.receive,
    })
    return session
  }

  #move(endpoint: EngineEndpoint): void {
    if (sameEndpoint(this.endpoint, endpoint)) return
    this.endpoint = endpoint
    this.#emitPeer()
  }

  #emitPeer(): void {
    this.#context.emit({ op: 'setPeer', peer: this.slot, publicKey: this.publicKey, endpoint: this.endpoint })
    this.#context.worthSaving()
  }

  #dropHandshake(): void {
    if (this.#handshake === undefined) return
    this.#handshake.state.wipe()
    this.#context.indices.release(this.#handshake.local)
    this.#handshake = undefined
  }

  #ephemeral() {
    const bytes = this.#context.random(KEY_BYTES)
    const key = this.#context.crypto.importKey(bytes)
    bytes.fill(0)
    return key
  }

  #ownKeyIsSmaller(): boolean {
    const own = this.#context.identity?.static.publicKey.toHex() ?? ''
    return own < this.#publicKey.toHex()
  }

  #jitter(): number {
    const bytes = this.#context.random(2)
    return (((bytes[0] ?? 0) * 256 + (bytes[1] ?? 0)) * MAX_JITTER) / 65_535
  }
}
