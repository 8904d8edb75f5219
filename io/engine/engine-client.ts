import { createConnection, type Socket } from 'node:net'
import type { DumpedAssociation } from '#core/engine/association.ts'
import {
  type DumpedPeer,
  type DumpedSession,
  decodeEvent,
  type EngineEvent,
  type ReplyStatus,
} from '#core/engine/event.ts'
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
  /** Of a device of IPsec. */
  readonly associations: DumpedAssociation[]
}

export interface EngineAnswer {
  readonly status: ReplyStatus
  readonly text: string
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
 * The connection of an engine's one client, keeper or (for IPsec) agent (docs/protocol/engine.md). It comes back at once whenever it ends: the listening
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
  /** Frames of this turn. */
  readonly #unsent: Uint8Array[] = []
  /** The one that `ready` waits for. */
  #firstDump: number | undefined
  readonly #dumps = new Map<number, EngineState>()
  #waiters: { upTo: number; resolve: () => void; reject: (error: unknown) => void }[] = []
  /** Who waits for an answer; undefined: it will not come. */
  #asked = new Map<number, (answer: EngineAnswer | undefined) => void>()
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
  async counters(timeoutMs: number): Promise<Record<string, number>> {
    const { status, text } = await this.ask({ op: 'counters' }, timeoutMs)
    if (status !== 'done') throw this.#away()
    return JSON.parse(text) as Record<string, number>
  }

  /**
   * The answer to one request, also when it is a refusal; `refused` is not called. Waits for an engine that is being
   * restarted, but not for the answer of one that went away meanwhile: rejects with Fault `engine.away` then.
   */
  async ask(request: EngineRequest, timeoutMs: number): Promise<EngineAnswer> {
    if (!this.#ready) await this.barrier(timeoutMs)
    return await this.#asking(this.#write(request), timeoutMs)
  }

  /** What the engine has now. Rejects as {@link ask}. */
  async dump(timeoutMs: number): Promise<EngineState> {
    if (!this.#ready) await this.barrier(timeoutMs)
    const id = this.#write({ op: 'dump' })
    const state = emptyState()
    this.#dumps.set(id, state)
    try {
      const { status } = await this.#asking(id, timeoutMs)
      if (status !== 'done') throw this.#away()
    } finally {
      this.#dumps.delete(id)
    }
    return state
  }

  /** Of the present connection; undefined while there is none. */
  get hello(): EngineHello | undefined {
    return this.#ready ? this.#hello : undefined
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#socket?.destroy()
    for (const waiter of this.#waiters.splice(0))
      waiter.reject(new Fault('engine.away', 'the connection to the engine was closed'))
  }

  #asking(id: number, timeoutMs: number): Promise<EngineAnswer> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#asked.delete(id)
        reject(this.#away())
      }, timeoutMs)
      this.#asked.set(id, (answer) => {
        clearTimeout(timer)
        if (answer === undefined) reject(this.#away())
        else resolve(answer)
      })
    })
  }

  #away(): Fault {
    return new Fault('engine.away', 'the engine does not answer', { field: this.#path })
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
    this.#firstDump = undefined
    this.#dumps.clear()
    this.#early = []
    for (const request of this.#pending.values()) wipe(request)
    this.#pending.clear()
    for (const frame of this.#unsent.splice(0)) frame.fill(0)
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
        this.#dumps.get(event.request)?.peers.push(event)
        break
      case 'session':
        this.#dumps.get(event.request)?.sessions.push(event)
        break
      case 'allowed':
        this.#dumps.get(event.request)?.allowed.push(event)
        break
      case 'association':
        this.#dumps.get(event.request)?.associations.push(event)
        break
      case 'handshake':
      case 'wanted':
      case 'confirmed':
      case 'activity':
      case 'moved':
      case 'heard':
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
    this.#firstDump = this.#write({ op: 'dump' })
    this.#dumps.set(this.#firstDump, emptyState())
  }

  #answered(id: number, status: ReplyStatus, text: string): void {
    const request = this.#pending.get(id)
    this.#pending.delete(id)
    const asked = this.#asked.get(id)
    this.#asked.delete(id)
    asked?.({ status, text })
    if (this.#firstDump === id && this.#hello !== undefined) {
      const state = this.#dumps.get(id) ?? emptyState()
      this.#dumps.delete(id)
      this.#firstDump = undefined
      this.#ready = true
      this.#handlers.ready(this.#hello, state)
      const upTo = this.#nextId - 1
      for (const waiter of this.#waiters) waiter.upTo = Math.min(waiter.upTo, upTo)
      for (const event of this.#early.splice(0)) this.#handlers.event(event)
    } else if (asked === undefined && request !== undefined && status !== 'done') {
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
    this.#unsent.push(frame)
    if (this.#unsent.length === 1) queueMicrotask(() => this.#flush())
    return id
  }

  /** Whatever one chunk of events brought about leaves by one system call. */
  #flush(): void {
    const frames = this.#unsent.splice(0)
    if (frames.length === 0) return
    const bytes = Buffer.concat(frames)
    // there may be keys in them
    for (const frame of frames) frame.fill(0)
    this.#socket?.write(bytes, () => bytes.fill(0))
  }
}

function emptyState(): EngineState {
  return { peers: [], sessions: [], allowed: [], associations: [] }
}

/** Keys leave this process with the frame. */
function wipe(request: EngineRequest): void {
  if (request.op === 'setSession') {
    request.sendKey.fill(0)
    request.receiveKey.fill(0)
  } else if (request.op === 'setSending' || request.op === 'setReceiving') {
    request.keys.encryption.fill(0)
    request.keys.authentication.fill(0)
  }
}
