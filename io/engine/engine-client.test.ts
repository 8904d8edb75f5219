import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { type EngineEvent, encodeEvent, NO_ACTIVITY } from '#core/engine/event.ts'
import { FrameSplitter } from '#core/engine/frames.ts'
import { decodeRequest, type EngineRequest } from '#core/engine/request.ts'
import { Fault } from '#core/fault/fault.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { EngineClient, type EngineState } from './engine-client.ts'

const HELLO = { type: 'hello', protocol: 1, instance: '00'.repeat(16), pid: 7, maxPeers: 16, version: 'test' } as const
const activity = { ...NO_ACTIVITY, rxBytes: 5n, txBytes: 6n }

/** The other end of the socket: answers DUMP, leaves the rest to the test. */
class FakeEngine {
  readonly requests: EngineRequest[] = []
  hello: EngineEvent = HELLO
  dump: EngineEvent[] = []
  answering = true
  readonly #server: Server
  #socket: Socket | undefined

  constructor(path: string) {
    this.#server = createServer((socket) => this.#accept(socket)).listen(path)
  }

  say(event: EngineEvent): void {
    this.#socket?.write(encodeEvent(event))
  }

  die(): void {
    this.#socket?.destroy()
  }

  close(): void {
    this.die()
    this.#server.close()
  }

  #accept(socket: Socket): void {
    const splitter = new FrameSplitter()
    this.#socket = socket
    socket.on('error', () => undefined)
    socket.on('data', (chunk: Buffer) => {
      for (const body of splitter.push(chunk)) {
        const { id, request } = decodeRequest(body)
        this.requests.push(request)
        if (request.op === 'dump') for (const event of this.dump) this.say({ ...event, request: id } as EngineEvent)
        if (request.op === 'dump' || this.answering) this.say({ type: 'reply', request: id, status: 'done', text: '' })
      }
    })
    this.say(this.hello)
  }
}

let folder: string
let engine: FakeEngine
let client: EngineClient
let happened: string[]
let states: EngineState[]
let errors: unknown[]
let wake: () => void = () => undefined

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pw-engine-'))
  const path = join(folder, 'engine.sock')
  engine = new FakeEngine(path)
  ;[happened, states, errors] = [[], [], []]
  const note = (what: string) => {
    happened.push(what)
    wake()
  }
  client = new EngineClient(path, {
    ready(_, state) {
      states.push(state)
      client.request({ op: 'keepalive', peer: states.length })
      note('ready')
    },
    event: (event) => note(event.type),
    refused: (request, status) => note(`${request.op} ${status}`),
    away(error) {
      errors.push(error)
      note('away')
    },
  })
})

afterEach(() => {
  client.close()
  engine.close()
  rmSync(folder, { recursive: true })
})

async function until(what: string, times = 1): Promise<void> {
  while (happened.filter((h) => h === what).length < times) {
    await new Promise<void>((resolve) => {
      wake = resolve
    })
  }
}

test('what the engine has comes first, then what it said meanwhile', async () => {
  const publicKey = publicKeyOf(new Uint8Array(32).fill(9))
  engine.dump = [
    { type: 'confirmed', peer: 3, local: 1 },
    { type: 'peer', request: 0, peer: 3, publicKey, endpoint: undefined, activity },
    { type: 'allowed', request: 0, peer: 3, prefixes: [] },
  ]
  client.start()
  await until('confirmed')
  assert.deepEqual(happened, ['ready', 'confirmed'])
  assert.equal(states[0]?.peers[0]?.publicKey, publicKey)
  assert.equal(states[0]?.allowed.length, 1)
})

test('a barrier waits for the answers, and over the death of the engine', async () => {
  client.start()
  await until('ready')
  await client.barrier(60_000)
  engine.answering = false
  client.request({ op: 'dropWaiting', peer: 1 })
  let passed = false
  const barrier = client.barrier(60_000).then(() => {
    passed = true
  })
  engine.die()
  await until('away')
  assert.equal(passed, false)
  engine.answering = true
  await until('ready', 2)
  await barrier
  assert.deepEqual(
    engine.requests.filter(({ op }) => op === 'keepalive').length,
    2,
    'each connection brings the engine up to date',
  )
})

test('a barrier gives up when no engine comes', async () => {
  engine.close()
  client.start()
  await assert.rejects(client.barrier(20), (error) => error instanceof Fault && error.code === 'engine.away')
})

test('session keys are overwritten when they have left', async () => {
  client.start()
  await until('ready')
  const keys = { sendKey: new Uint8Array(32).fill(1), receiveKey: new Uint8Array(32).fill(2) }
  const session = { peer: 0, place: 'next', role: 'responder', local: 1, remote: 2, born: 3 } as const
  client.request({ op: 'setSession', ...session, ...keys })
  assert.deepEqual([...keys.sendKey, ...keys.receiveKey], [...new Uint8Array(64)])
  await client.barrier(60_000)
  const got = engine.requests.find(({ op }) => op === 'setSession')
  assert.ok(got?.op === 'setSession' && got.sendKey[0] === 1 && got.receiveKey[0] === 2)
})

test('another protocol and a broken stream end the connection, with the reason', async () => {
  engine.hello = { ...HELLO, protocol: 2 }
  client.start()
  await until('away')
  assert.ok(errors[0] instanceof Fault && errors[0].code === 'engine.protocol')
  engine.hello = HELLO
  await until('ready')
})
