import type { EngineEndpoint } from '#core/engine/endpoint.ts'
import type { DumpedPeer, DumpedSession, EngineEvent } from '#core/engine/event.ts'
import { type EngineRequest, MAX_PREFIXES } from '#core/engine/request.ts'
import { Fault } from '#core/fault/fault.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import type { WireguardCrypto } from '#core/noise/crypto.ts'
import { type Identity, readInitiation } from '#core/noise/ikpsk2.ts'
import type { DeviceChange, PeerChange } from './change.ts'
import type { Entropy, Now } from './clock.ts'
import { IDENTIFIER } from './constants.ts'
import { CookieChecker } from './cookie.ts'
import { Deadlines } from './deadlines.ts'
import { IndexTable } from './index-table.ts'
import { KEY_BYTES, type PublicKey, publicKeyBytes, publicKeyOf } from './key.ts'
import { Load } from './load.ts'
import { type Message, parseMessage } from './message.ts'
import { Peer, type PeerContext, type Verdict } from './peer.ts'
import { Strangers } from './strangers.ts'

export interface DeviceOptions {
  readonly crypto: WireguardCrypto
  readonly random: Entropy
  /** Slots of the engine. */
  readonly maxPeers: number
  /** Handshake messages a second above which a cookie is asked for. */
  readonly handshakeLimit?: number
}

/** What an engine answers to DUMP. */
export interface EngineDump {
  readonly peers: readonly DumpedPeer[]
  readonly sessions: readonly DumpedSession[]
  readonly allowed: readonly { readonly peer: number; readonly prefixes: readonly Cidr[] }[]
}

/** About 0.3 ms of one core each. */
const HANDSHAKE_LIMIT = 1000
const PROLOGUE = new TextEncoder().encode(IDENTIFIER)

/**
 * A WireGuard device without I/O: its configuration, its peers and their handshakes. Drive it so:
 *
 * - `configure(now, change)`, `handleEvent(now, event)`, `handleTimeout(now)` whenever something happens,
 * - then `poll()` until it gives undefined: requests for the engine, in order,
 * - then wait until `nextTimeout()` (milliseconds, monotonic) at the latest.
 *
 * After each (re)connection to an engine, `reconcile` once with what the engine has.
 *
 * Longer than other files: what is configured, what comes and what an engine has all meet in the same peers and slots.
 */
export class Device implements PeerContext {
  readonly crypto: WireguardCrypto
  readonly random: Entropy
  readonly indices: IndexTable<Peer>
  /** How many handshake messages ended how. */
  readonly verdicts = new Map<Verdict, number>()
  /** Slots of the engine. */
  maxPeers: number
  listenPort = 0
  mark = 0
  /** Counts whatever should be saved: configuration, endpoints, timestamps. */
  revision = 0
  readonly #load: Load
  readonly #peers = new Map<PublicKey, Peer>()
  readonly #slots = new Map<number, Peer>()
  readonly #owners = new Map<Cidr, Peer>()
  readonly #deadlines = new Deadlines<Peer>()
  readonly #leaving: Peer[] = []
  readonly #strangers = new Strangers()
  #lastSlot = -1
  #requests: EngineRequest[] = []
  #identity: Identity | undefined
  #privateKey: Uint8Array | undefined
  #checker: CookieChecker | undefined

  constructor(options: DeviceOptions) {
    this.crypto = options.crypto
    this.random = options.random
    this.indices = new IndexTable(options.random)
    this.maxPeers = options.maxPeers
    this.#load = new Load(options.handshakeLimit ?? HANDSHAKE_LIMIT)
  }

  get identity(): Identity | undefined {
    return this.#identity
  }

  /** The live bytes; undefined without a key. */
  get privateKey(): Uint8Array | undefined {
    return this.#privateKey
  }

  get publicKey(): PublicKey | undefined {
    return this.#identity && publicKeyOf(this.#identity.static.publicKey)
  }

  get peers(): ReadonlyMap<PublicKey, Peer> {
    return this.#peers
  }

  nextTimeout(): number | undefined {
    return this.#deadlines.earliest
  }

  poll(): EngineRequest | undefined {
    return this.#requests.shift()
  }

  emit(request: EngineRequest): void {
    this.#requests.push(request)
  }

  worthSaving(): void {
    this.revision++
  }

  changed(peer: Peer): void {
    this.#deadlines.set(peer, peer.timers.next())
  }

  /**
   * All or nothing. A peer that is named again keeps its sessions, also with `replacePeers`; a prefix that moves is never
   * without a peer. With `restored` no packet is sent for it.
   * @throws Fault `wireguard.peer.*`, nothing is changed then
   */
  configure(now: Now, change: DeviceChange, restored = false): void {
    this.check(change)
    this.revision++
    if (change.privateKey !== undefined) this.#setPrivateKey(change.privateKey)
    if (change.listenPort !== undefined) this.listenPort = change.listenPort
    if (change.mark !== undefined) this.mark = change.mark
    const orphaned = new Map<Cidr, Peer>()
    if (change.replacePeers) {
      const named = new Set(change.peers.map((peer) => peer.publicKey))
      for (const peer of this.#peers.values()) if (!named.has(peer.publicKey)) this.#leave(peer)
    }
    for (const peerChange of change.peers) {
      const existing = this.#peers.get(peerChange.publicKey)
      if (!peerChange.remove) this.#configurePeer(now, existing, peerChange, change.replacePeers, orphaned, restored)
      else if (existing !== undefined) this.#leave(existing)
    }
    this.#forgetLeaving()
    for (const [prefix, peer] of orphaned) {
      const gone = !this.#owners.has(prefix) && this.#slots.get(peer.slot) === peer
      if (gone) this.emit({ op: 'disallow', peer: peer.slot, prefixes: [prefix] })
    }
  }

  handleEvent(now: Now, event: EngineEvent): void {
    switch (event.type) {
      case 'handshake':
        this.handleHandshake(now, event.message, event.source, event.destination)
        break
      case 'wanted':
        this.#slots.get(event.peer)?.handleWanted(now, event.reason)
        break
      case 'confirmed':
        this.#slots.get(event.peer)?.handleConfirmed(now, event.local)
        break
      case 'activity':
        for (const { peer, activity } of event.peers) this.#slots.get(peer)?.handleActivity(now, activity)
        break
      case 'moved':
        this.#slots.get(event.peer)?.handleMoved(event.endpoint)
        break
      case 'hello':
      case 'reply':
      case 'peer':
      case 'session':
      case 'allowed':
      // of devices of IPsec
      case 'association':
      case 'heard':
        break
    }
  }

  /** `to` is our own address that the message came to, so that the answer comes from there. */
  handleHandshake(now: Now, bytes: Uint8Array, from: EngineEndpoint, to: EngineEndpoint | undefined): Verdict {
    const message = parseMessage(bytes)
    const verdict = message === undefined ? 'malformed' : this.#handleMessage(now, message, from, to)
    this.verdicts.set(verdict, (this.verdicts.get(verdict) ?? 0) + 1)
    return verdict
  }

  handleTimeout(now: Now): void {
    for (const peer of this.#deadlines.expired(now.monotonic)) {
      peer.handleTimeout(now)
      this.#deadlines.set(peer, peer.timers.next())
    }
  }

  /**
   * Brings an engine to what is configured, and takes over what it has: peers that stay keep sessions and counters.
   * `fresh`: this process has just read its configuration, and knows of no session.
   */
  reconcile(now: Now, dump: EngineDump, fresh: boolean): void {
    this.#requests = []
    this.#emitMacKey()
    if (fresh) this.#takeSlots(dump)
    const known = new Map(dump.peers.map((peer) => [peer.peer, peer]))
    const owners = new Map(dump.allowed.flatMap(({ peer, prefixes }) => prefixes.map((prefix) => [prefix, peer])))
    for (const dumped of dump.peers) {
      if (this.#slots.get(dumped.peer)?.publicKey !== dumped.publicKey) known.delete(dumped.peer)
    }
    for (const peer of this.#slots.values()) {
      const dumped = known.get(peer.slot)
      if (dumped === undefined) {
        this.emit({ op: 'setPeer', peer: peer.slot, publicKey: peer.publicKey, endpoint: peer.endpoint })
        peer.restart(now, fresh)
      } else {
        const sessions = dump.sessions.filter((session) => session.peer === peer.slot)
        peer.adopt(now, dumped, sessions, fresh)
      }
      const missing = [...peer.allowedIps].filter((prefix) => owners.get(prefix) !== peer.slot)
      this.#emitPrefixes('allow', peer, missing)
    }
    for (const [prefix, slot] of owners) {
      if (!this.#owners.has(prefix) && known.has(slot)) this.emit({ op: 'disallow', peer: slot, prefixes: [prefix] })
    }
    for (const { peer } of dump.peers) if (!this.#slots.has(peer)) this.emit({ op: 'removePeer', peer })
  }

  #handleMessage(now: Now, message: Message, from: EngineEndpoint, to: EngineEndpoint | undefined): Verdict {
    if (this.#identity === undefined || this.#checker === undefined) return 'no-key'
    // nobody can be answered at port 0, and no configuration may name it
    if (message.type === 'data' || from.port === 0) return 'malformed'
    if (message.type === 'cookie') return this.indices.get(message.receiver)?.handleCookie(now, message) ?? 'unknown'
    // before any Diffie-Hellman: who does not know our public key costs us one hash
    if (!this.#checker.checkMac1(message.bytes)) return 'forged'
    // an answer to nothing costs no Diffie-Hellman either
    const asked = message.type === 'response' ? this.indices.get(message.receiver) : undefined
    if (message.type === 'response' && asked === undefined) return 'unknown'
    const checker = this.#checker
    const judgement = this.#load.judge(now.monotonic, from.ip, () =>
      checker.checkMac2(now.monotonic, message.bytes, from),
    )
    if (judgement === 'drop') return 'flood'
    if (judgement === 'ask') {
      const reply = this.#checker.reply(now.monotonic, message.bytes, message.sender, from)
      this.emit({ op: 'send', source: to, destination: from, tos: 0, message: reply })
      return 'cookie-sent'
    }
    if (message.type === 'response') return asked?.handleResponse(now, message, from) ?? 'unknown'
    const read = readInitiation(this.crypto, this.#identity, message.noise)
    if (read === undefined) return 'forged'
    const remote = publicKeyOf(read.remoteStatic)
    const peer = this.#peers.get(remote)
    if (peer !== undefined) return peer.handleInitiation(now, read, message.sender, from, to)
    read.wipe()
    this.#strangers.note(now.monotonic, remote)
    return 'unknown'
  }

  /** @throws Fault `wireguard.peer.*` for a change that `configure` would refuse */
  check(change: DeviceChange): void {
    const identity =
      change.privateKey === undefined || change.privateKey === 'none'
        ? undefined
        : this.crypto.importKey(change.privateKey)
    const own = identity ?? (change.privateKey === 'none' ? undefined : this.#identity?.static)
    const ownKey = own && publicKeyOf(own.publicKey)
    const named = new Set<PublicKey>()
    let count = change.replacePeers ? 0 : this.#peers.size
    for (const peer of change.peers) {
      const { publicKey } = peer
      if (publicKeyBytes(publicKey).every((byte) => byte === 0)) {
        throw new Fault('wireguard.peer.zero', 'a public key is all zero', { field: 'public_key' })
      }
      if (named.has(publicKey)) {
        throw new Fault('wireguard.peer.duplicate', `the peer ${publicKey} is named twice`, { field: 'public_key' })
      }
      if (peer.remove) continue
      named.add(publicKey)
      if (publicKey === ownKey) {
        throw new Fault('wireguard.peer.self', `the peer ${publicKey} has this device's own key`, {
          field: 'public_key',
          remedy: 'Every node needs a key pair of its own; two with the same cannot tell each other apart',
        })
      }
      // A key of small order is taken, as Linux takes it: no handshake comes of it, and the other peers of the call are
      // none the worse.
      if (change.replacePeers || !this.#peers.has(publicKey)) count++
    }
    if (change.privateKey !== undefined && ownKey !== undefined && !change.replacePeers && this.#peers.has(ownKey)) {
      throw new Fault('wireguard.peer.self', 'the new private key belongs to a peer', { field: 'private_key' })
    }
    if (count > this.maxPeers) {
      throw new Fault('wireguard.peer.full', `${count} peers; the engine has room for ${this.maxPeers}`)
    }
  }

  #setPrivateKey(key: Uint8Array | 'none'): void {
    const same = key !== 'none' && this.#privateKey?.every((byte, i) => byte === key[i]) === true
    if (same) return
    this.#privateKey?.fill(0)
    this.#privateKey = key === 'none' ? undefined : new Uint8Array(key)
    this.#identity = this.#privateKey && { prologue: PROLOGUE, static: this.crypto.importKey(this.#privateKey) }
    this.#checker = this.#identity && new CookieChecker(this.crypto, this.random, this.#identity.static.publicKey)
    this.#emitMacKey()
    for (const peer of this.#peers.values()) {
      peer.setIdentity(this.#identity)
      peer.clearSessions()
    }
  }

  #configurePeer(
    now: Now,
    existing: Peer | undefined,
    change: PeerChange,
    replaced: boolean,
    orphaned: Map<Cidr, Peer>,
    restored: boolean,
  ): void {
    if (existing === undefined && change.updateOnly) return
    const peer = existing ?? this.#addPeer(change.publicKey)
    const psk = change.presharedKey ?? (replaced ? 'none' : undefined)
    if (psk !== undefined && !samePsk(peer, psk)) peer.setPsk(now, psk === 'none' ? undefined : psk)
    if (change.endpoint !== undefined || existing === undefined) peer.setEndpoint(change.endpoint)
    if (change.replaceAllowedIps || replaced) {
      for (const prefix of peer.allowedIps) this.#release(prefix, peer, orphaned)
    }
    const added: Cidr[] = []
    for (const { prefix, remove } of change.allowedIps) {
      if (remove) {
        if (peer.allowedIps.has(prefix)) this.#release(prefix, peer, orphaned)
        continue
      }
      const before = this.#owners.get(prefix)
      before?.allowedIps.delete(prefix)
      this.#owners.set(prefix, peer)
      peer.allowedIps.add(prefix)
      if (before !== peer && orphaned.get(prefix) !== peer) added.push(prefix)
    }
    this.#emitPrefixes('allow', peer, added)
    const keepalive = change.persistentKeepalive ?? (replaced ? 0 : undefined)
    if (keepalive !== undefined && keepalive !== peer.persistentKeepalive) {
      peer.setPersistentKeepalive(now, keepalive, restored)
    }
    const called = existing === undefined && this.#strangers.take(now.monotonic, peer.publicKey)
    if ((change.greet === true || called) && !restored) peer.greet(now)
  }

  #release(prefix: Cidr, peer: Peer, orphaned: Map<Cidr, Peer>): void {
    peer.allowedIps.delete(prefix)
    this.#owners.delete(prefix)
    orphaned.set(prefix, peer)
  }

  #addPeer(publicKey: PublicKey): Peer {
    if (this.#slots.size >= this.maxPeers) this.#forgetLeaving()
    // round and round: an event that was under way for a removed peer must not meet the next one
    do this.#lastSlot = (this.#lastSlot + 1) % this.maxPeers
    while (this.#slots.has(this.#lastSlot))
    const slot = this.#lastSlot
    const peer = new Peer(this, publicKey, slot)
    this.#peers.set(publicKey, peer)
    this.#slots.set(slot, peer)
    return peer
  }

  /** No peer any more; its slot stays until the others took what prefixes they want, without a gap. */
  #leave(peer: Peer): void {
    this.#peers.delete(peer.publicKey)
    this.#leaving.push(peer)
  }

  #forgetLeaving(): void {
    for (const peer of this.#leaving.splice(0)) {
      for (const prefix of peer.allowedIps) this.#owners.delete(prefix)
      this.#slots.delete(peer.slot)
      this.#deadlines.set(peer, undefined)
      peer.remove()
      this.emit({ op: 'removePeer', peer: peer.slot })
    }
  }

  /** Our peers move to the slots that the engine has them in; nothing was emitted that names a slot yet. */
  #takeSlots(dump: EngineDump): void {
    const slots = new Map(dump.peers.map((peer) => [peer.publicKey, peer.peer]))
    const taken = new Set(dump.peers.map((peer) => peer.peer))
    const peers = [...this.#slots.values()]
    this.#slots.clear()
    let free = 0
    for (const peer of peers) {
      let slot = slots.get(peer.publicKey)
      if (slot === undefined) {
        while (taken.has(free)) free++
        slot = free
        taken.add(slot)
      }
      peer.slot = slot
      this.#slots.set(slot, peer)
    }
  }

  #emitMacKey(): void {
    this.emit({ op: 'setMacKey', macKey: this.#checker?.mac1Key ?? new Uint8Array(KEY_BYTES) })
  }

  #emitPrefixes(op: 'allow' | 'disallow', peer: Peer, prefixes: readonly Cidr[]): void {
    for (let at = 0; at < prefixes.length; at += MAX_PREFIXES) {
      this.emit({ op, peer: peer.slot, prefixes: prefixes.slice(at, at + MAX_PREFIXES) })
    }
  }
}

function samePsk(peer: Peer, psk: Uint8Array | 'none'): boolean {
  if (psk === 'none' || psk.length !== KEY_BYTES) return !peer.hasPsk
  return peer.psk.every((byte, i) => byte === psk[i])
}
