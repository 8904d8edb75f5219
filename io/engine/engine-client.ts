import { createConnection, type Socket } from 'node:net'
import { type DumpedPeer, type DumpedSession, decodeEvent, type EngineEvent } from '#core/engine/event.ts'
import { FrameSplitter } from '#core/engine/frames.ts'
import { type EngineRequest, encodeRequest } from '#core/engine/request.ts'
import { Fault } from '#core/fault/fault.ts'
import type { Cidr } from '#core/ip/cidr.ts'

const ENGINE_PROTOCOL = 1

export interface EngineHello {
  readonly instance: string
  readonly pid: number
  readonly maxPeers: number
  readonly version: string
}

export interface EngineState {
  readonly peers: DumpedPeer[]
  readonly sessions: DumpedSession[]
  readonly allowed: { readonly peer: number; readonly prefixes: readonly Cidr[] }[]
}

export interface EngineHandlers {
  /** Connected, and this is what the engine has: the requests made in here are what is missing. */
  ready(hello: EngineHello, state: EngineState): void
  event(event: EngineEvent): void
  /** The engine refused a request, which was a mistake of ours or a want of room. */
  refused(request: EngineRequest, status: string, text: string): void
  /** The connection ended; the next one is being tried. */
  away(error: unknown): void
}

const RETRY_MS = [0, 20, 50, 100, 250, 500, 1000]

/**
 * The keeper's connection to the engine (docs/protocol/engine.md). It comes back at once whenever it ends: the listening
 * descriptor is the supervisor's, so connecting works also while the engine is being started again.
 *
 * Requests made while there is no connection are dropped: `ready` brings the engine up to date again.
 */
export class EngineClient {
  readonly #path: string
  readonly #handlers: EngineHandlers
  #socket: Socket | undefined
  #hello: EngineHello | undefined
  /** Requests without an answer, oldest first. */
  #pending = new Map<number, EngineRequest>()
  #dump: { id: number; state: EngineState } | undefined
  #waiters: { upTo: number; resolve: () => void; reject: (error: unknown) => void }[] = []
  /** Who waits for the text of an answer; undefined: it will not come. */
  #asked = new Map<number, (text: string | undefined) => void>()
  /** What came before the dump was complete. */
  #early: EngineEvent[] = []
  #nextId = 1
  #attempt = 0
  #timer: NodeJS.Timeout | undefined
  #closed = false
  #ready = false

  constructor(path: string, handlers: EngineHandlers) {
    this.#path = path
    this.#handlers = handlers
  }

  start(): void {
    if (!this.#closed) this.#connect()
  }

  request(request: EngineRequest): void {
    if (this.#ready) this.#write(request)
  }

  /** Done when all that was asked until now holds for every later packet; waits for an engine that is being restarted. */
  barrier(timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const upTo = this.#nextId - 1
      if (this.#ready && !this.#isPending(upTo)) {
        resolve()
        return
      }
      const timer = setTimeout(() => {
        this.#waiters = this.#waiters.filter((w) => w !== waiter)
        reject(
          new Fault('engine.away', `the engine did not answer within ${timeoutMs / 1000} s`, { field: this.#path }),
        )
      }, timeoutMs)
      const waiter = {
        upTo: this.#ready ? upTo : Number.POSITIVE_INFINITY,
        resolve: () => {
          clearTimeout(timer)
          resolve()
        },
        reject: (error: unknown) => {
          clearTimeout(timer)
          reject(error)
        },
      }
      this.#waiters.push(waiter)
    })
  }

  /** The engine's counters by name. Rejects with Fault `engine.away` when there is no answer in time. */
  counters(timeoutMs: number): Promise<Record<string, number>> {
    return new Promise((resolve, reject) => {
      const away = () => reject(new Fault('engine.away', 'the engine does not answer', { field: this.#path }))
      if (!this.#ready) return away()
      const id = this.#write({ op: 'counters' })
      const timer = setTimeout(() => {
        this.#asked.delete(id)
        away()
      }, timeoutMs)
      this.#asked.set(id, (text) => {
        clearTimeout(timer)
        if (text === undefined) away()
        else resolve(JSON.parse(text) as Record<string, number>)
      })
    })
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#socket?.destroy()
    for (const waiter of this.#waiters.splice(0)) waiter.reject(new Fault('engine.away', 'the keeper ends'))
  }

  #connect(): void {
    const splitter = new FrameSplitter()
    const socket = createConnection(this.#path)
    this.#socket = socket
    let failure: unknown
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const body of splitter.push(chunk)) this.#handle(body)
      } catch (error) {
        socket.destroy(error instanceof Error ? error : new Error(String(error)))
      }
    })
    socket.on('error', (error) => {
      failure = error
    })
    socket.on('close', () => this.#lost(failure))
  }

  #lost(error: unknown): void {
    const wasReady = this.#ready
    this.#ready = false
    this.#hello = undefined
    this.#dump = undefined
    this.#early = []
    for (const request of this.#pending.values()) wipe(request)
    this.#pending.clear()
    for (const told of this.#asked.values()) told(undefined)
    this.#asked.clear()
    // what was asked for is brought up to date by the next `ready`
    for (const waiter of this.#waiters) waiter.upTo = Number.POSITIVE_INFINITY
    if (this.#closed) return
    if (wasReady) this.#attempt = 0
    const delay = RETRY_MS[Math.min(this.#attempt++, RETRY_MS.length - 1)]
    this.#handlers.away(error)
    this.#timer = setTimeout(() => this.#connect(), delay)
  }

  #handle(body: Uint8Array): void {
    const event = decodeEvent(body)
    if (event === undefined) return
    switch (event.type) {
      case 'hello':
        this.#greet(event)
        break
      case 'reply':
        this.#answered(event.request, event.status, event.text)
        break
      case 'peer':
        this.#dumped(event.request)?.peers.push(event)
        break
      case 'session':
        this.#dumped(event.request)?.sessions.push(event)
        break
      case 'allowed':
        this.#dumped(event.request)?.allowed.push(event)
        break
      case 'handshake':
      case 'wanted':
      case 'confirmed':
      case 'activity':
      case 'moved':
        // slots are known only after the dump
        if (this.#ready) this.#handlers.event(event)
        else this.#early.push(event)
        break
    }
  }

  #greet(hello: EngineEvent & { type: 'hello' }): void {
    if (hello.protocol !== ENGINE_PROTOCOL) {
      throw new Fault(
        'engine.protocol',
        `the engine speaks protocol ${hello.protocol}, the keeper ${ENGINE_PROTOCOL}`,
        {
          remedy: 'Engine and keeper must be of one release',
        },
      )
    }
    this.#hello = hello
    this.#dump = { id: this.#write({ op: 'dump' }), state: { peers: [], sessions: [], allowed: [] } }
  }

  #dumped(request: number): EngineState | undefined {
    return this.#dump?.id === request ? this.#dump.state : undefined
  }

  #answered(id: number, status: string, text: string): void {
    const request = this.#pending.get(id)
    this.#pending.delete(id)
    this.#asked.get(id)?.(status === 'done' ? text : undefined)
    this.#asked.delete(id)
    if (this.#dump?.id === id && this.#hello !== undefined) {
      const { state } = this.#dump
      this.#dump = undefined
      this.#ready = true
      this.#handlers.ready(this.#hello, state)
      const upTo = this.#nextId - 1
      for (const waiter of this.#waiters) waiter.upTo = Math.min(waiter.upTo, upTo)
      for (const event of this.#early.splice(0)) this.#handlers.event(event)
    } else if (request !== undefined && status !== 'done') {
      this.#handlers.refused(request, status, text)
    }
    this.#waiters = this.#waiters.filter((waiter) => {
      const done = this.#ready && !this.#isPending(waiter.upTo)
      if (done) waiter.resolve()
      return !done
    })
  }

  #isPending(upTo: number): boolean {
    const oldest = this.#pending.keys().next()
    return oldest.done !== true && oldest.value <= upTo
  }

  #write(request: EngineRequest): number {
    const id = this.#nextId++
    const frame = encodeRequest(id >>> 0, request)
    this.#pending.set(id, request)
    wipe(request)
    this.#socket?.write(frame, () => {
      if (request.op === 'setSession') frame.fill(0)
    })
    return id
  }
}

/** Session keys leave this process with the frame. */
function wipe(request: EngineRequest): void {
  if (request.op !== 'setSession') return
  request.sendKey.fill(0)
  request.receiveKey.fill(0)
}
