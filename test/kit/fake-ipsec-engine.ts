import { createHash, randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { type DumpedAssociation, encodeKeys } from '#core/engine/association.ts'
import { type EngineEvent, encodeEvent, type ReplyStatus } from '#core/engine/event.ts'
import { FrameSplitter } from '#core/engine/frames.ts'
import { decodeRequest, type EngineRequest } from '#core/engine/request.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import type { PublicKey } from '#core/wireguard/key.ts'

/** The engine's half of docs/protocol/engine.md, "Devices of IPsec", in memory: rules, no packets. */
export class FakeIpsecEngine {
  readonly instance = randomBytes(16).toString('hex')
  /** Every request that changes something, in order. */
  readonly requests: EngineRequest[] = []
  readonly heard = new Set<number>()
  /** Those for which it is true are answered with `full`. */
  refuse: (request: EngineRequest) => boolean = () => false
  /** How many keys it was ever told of for each direction, and of how many it can keep the numbers. */
  usedKeys: readonly [used: number, room: number] = [0, 128]
  readonly #everUsed = new Set<string>()
  /** Called with each request before it is carried out. */
  before: (request: EngineRequest) => void = () => undefined
  readonly #peers = new Map<number, PublicKey>()
  readonly #allowed = new Map<Cidr, number>()
  readonly #associations = new Map<string, DumpedAssociation>()
  readonly #sockets = new Set<Socket>()

  accept(socket: Socket): void {
    const splitter = new FrameSplitter()
    this.#sockets.add(socket)
    socket.on('close', () => this.#sockets.delete(socket))
    socket.on('error', () => undefined)
    this.#say(socket, {
      type: 'hello',
      protocol: 1,
      instance: this.instance,
      pid: process.pid,
      maxPeers: 64,
      version: 'fake',
    })
    socket.on('data', (chunk: Buffer) => {
      for (const body of splitter.push(chunk)) {
        const { id, request } = decodeRequest(body)
        this.before(request)
        if (socket.destroyed) return
        const status = this.#handle(id, request, (event) => this.#say(socket, event))
        const [usedKeys, usedKeysRoom] = this.usedKeys
        const text = request.op === 'counters' ? JSON.stringify({ XfrmInNoStates: 0, usedKeys, usedKeysRoom }) : ''
        this.#say(socket, { type: 'reply', request: id, status, text })
      }
    })
  }

  /** The connection ends; what it has stays. */
  restart(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Something authenticated came from the peer of that slot. */
  hear(peer: number): void {
    this.heard.add(peer)
    for (const socket of this.#sockets) this.#say(socket, { type: 'heard', peer })
  }

  #handle(id: number, request: EngineRequest, say: (event: EngineEvent) => void): ReplyStatus {
    if (request.op === 'dump') this.#dump(id, say)
    else if (request.op !== 'counters' && request.op !== 'keepalive') this.requests.push(request)
    if (this.refuse(request)) return 'full'
    switch (request.op) {
      case 'dump':
      case 'counters':
        return 'done'
      case 'setPeer':
        if (this.#peers.get(request.peer) !== request.publicKey) this.#empty(request.peer)
        this.#peers.set(request.peer, request.publicKey)
        return 'done'
      case 'removePeer':
        if (!this.#peers.has(request.peer)) return 'absent'
        this.#empty(request.peer)
        this.#peers.delete(request.peer)
        return 'done'
      case 'allow':
        for (const prefix of request.prefixes) this.#allowed.set(prefix, request.peer)
        return this.#peers.has(request.peer) ? 'done' : 'absent'
      case 'disallow':
        for (const prefix of request.prefixes) {
          if (this.#allowed.get(prefix) === request.peer) this.#allowed.delete(prefix)
        }
        return 'done'
      case 'setReceiving':
      case 'setSending':
        return this.#set(request)
      case 'removeAssociation': {
        const { direction, peer, spi, fingerprint } = request
        return this.#associations.delete(`${direction} ${peer} ${spi} ${fingerprint}`) ? 'done' : 'absent'
      }
      case 'keepalive':
        return this.#sending(request.peer) === undefined ? 'absent' : 'done'
      case 'clearSessions':
      case 'dropWaiting':
      case 'removeSession':
      case 'send':
      case 'setSession':
      case 'setMacKey':
      default:
        return 'malformed'
    }
  }

  #set(request: EngineRequest & { op: 'setReceiving' | 'setSending' }): ReplyStatus {
    const { peer, spi, outer, keys } = request
    if (!this.#peers.has(peer)) return 'absent'
    const fingerprint = createHash('sha256').update(encodeKeys(keys)).digest('hex').slice(0, 16)
    const direction = request.op === 'setSending' ? 'out' : 'in'
    const id = `${direction} ${peer} ${spi} ${fingerprint}`
    if (direction === 'in') {
      if (this.#associations.has(id)) return 'done'
      const there = [...this.#associations.values()].filter((one) => one.direction === 'in' && one.peer === peer)
      if (there.length >= 4) return 'full'
    }
    const [, room] = this.usedKeys
    if (!this.#everUsed.has(`${direction} ${fingerprint}`) && this.#everUsed.size === room) return 'full'
    this.#everUsed.add(`${direction} ${fingerprint}`)
    this.usedKeys = [this.#everUsed.size, room]
    const former = direction === 'out' ? this.#sending(peer) : undefined
    if (former !== undefined) this.#associations.delete(former)
    const { algorithm, icv } = keys
    const encapsulation = request.op === 'setSending' ? request.encapsulation : 'udp'
    const counters = { sequence: 0n, packets: 0n, bytes: 0n }
    this.#associations.set(id, {
      direction,
      peer,
      spi,
      encapsulation,
      outer,
      algorithm,
      icv,
      fingerprint,
      ...counters,
    })
    return 'done'
  }

  #sending(peer: number): string | undefined {
    return [...this.#associations].find(([, one]) => one.direction === 'out' && one.peer === peer)?.[0]
  }

  #empty(peer: number): void {
    this.heard.delete(peer)
    for (const [prefix, owner] of this.#allowed) if (owner === peer) this.#allowed.delete(prefix)
    for (const [id, one] of this.#associations) if (one.peer === peer) this.#associations.delete(id)
  }

  #dump(request: number, say: (event: EngineEvent) => void): void {
    for (const [peer, publicKey] of this.#peers) {
      const activity = {
        firstUnanswered: 0,
        firstUnacknowledged: 0,
        lastSent: 0,
        lastReceived: 0,
        lastAuthenticated: this.heard.has(peer) ? 1 : 0,
        rxBytes: 0n,
        txBytes: 0n,
      }
      say({ type: 'peer', request, peer, publicKey, endpoint: undefined, activity })
      const prefixes = [...this.#allowed].filter(([, owner]) => owner === peer).map(([prefix]) => prefix)
      say({ type: 'allowed', request, peer, prefixes })
    }
    for (const one of this.#associations.values()) say({ type: 'association', request, ...one })
  }

  #say(socket: Socket, event: EngineEvent): void {
    socket.write(encodeEvent(event))
  }
}
