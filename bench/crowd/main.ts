import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { addressOf, Initiator } from './crowd.ts'

// Many WireGuard initiators in one process, each with a key and an address of its own, against one responder. They do
// what the paper says they do: an initiation without an answer is repeated after 5 s, a cookie is used for it then.
//
//   main.ts ADDRESS PORT     first line in: {"responder": key, "keys": [private key, …]}, base64; out: ready
//     prepare                out: prepared             (initiations are computed beforehand: they are not what is measured)
//     run WINDOW SECONDS     out: one JSON line, Run   (at most WINDOW at a time without an answer; 0: all at once)
export interface Run {
  readonly initiators: number
  /** With an answer that authenticates. */
  readonly answered: number
  readonly cookies: number
  /** From the first initiation to the last answer. */
  readonly seconds: number
  /** Of each answer since the first initiation, ascending. */
  readonly after: readonly number[]
}

interface Member {
  readonly initiator: Initiator
  readonly socket: Socket
  message: Uint8Array
  /** When it begins again unless there was an answer. */
  due: number
}

const RETRY_MS = 5000
const MAX_JITTER_MS = 333

const [address = '', portText = ''] = process.argv.slice(2)
const port = Number(portText)
const lines = createInterface(process.stdin)[Symbol.asyncIterator]()
const clock = () => ({ monotonic: performance.now(), unix: Date.now() })
let onAnswer = (_member: Member): void => undefined
let cookies = 0

const first = JSON.parse((await lines.next()).value ?? '') as { responder: string; keys: readonly string[] }
const responder = new Uint8Array(Buffer.from(first.responder, 'base64'))
const members = await Promise.all(first.keys.map(join))
console.log('ready')

for await (const line of lines) {
  const [verb, ...args] = line.split(' ')
  if (verb === 'prepare') {
    for (const member of members) member.message = member.initiator.initiation(clock())
    console.log('prepared')
  } else if (verb === 'run') {
    console.log(JSON.stringify(await run(Number(args[0]), Number(args[1]))))
  } else throw new TypeError(`what is ${line}?`)
}
for (const { socket } of members) socket.close()

async function join(key: string, index: number): Promise<Member> {
  const initiator = new Initiator(new Uint8Array(Buffer.from(key, 'base64')), responder, index + 1)
  const socket = createSocket('udp4')
  const member: Member = { initiator, socket, message: new Uint8Array(), due: 0 }
  socket.on('message', (bytes) => {
    const found = initiator.take(performance.now(), bytes)
    if (found === 'answer') onAnswer(member)
    else if (found === 'cookie') cookies++
  })
  // what the kernel says of a responder that is away: the answer is missing, and that is counted
  socket.on('error', () => undefined)
  socket.bind(51820, addressOf(index))
  await once(socket, 'listening')
  return member
}

async function run(window: number, seconds: number): Promise<Run> {
  cookies = 0
  const began = performance.now()
  const ends = began + seconds * 1000
  const most = window === 0 ? members.length : window
  const waiting = members.values()
  const open = new Set<Member>()
  const after: number[] = []
  const done = Promise.withResolvers<void>()
  const send = (member: Member) => {
    member.due = performance.now() + RETRY_MS + Math.random() * MAX_JITTER_MS
    open.add(member)
    member.socket.send(member.message, port, address, () => undefined)
  }
  const fill = () => {
    while (open.size < most) {
      const { value, done: none } = waiting.next()
      if (none === true) break
      send(value)
    }
    if (open.size === 0) done.resolve()
  }
  onAnswer = (member) => {
    if (!open.delete(member)) return
    after.push((performance.now() - began) / 1000)
    fill()
  }
  fill()
  const ended = done.promise.then(() => true)
  while (!(await Promise.race([ended, sleep(50, false)]))) {
    const now = performance.now()
    if (now > ends) break
    for (const member of open) {
      if (now < member.due) continue
      member.message = member.initiator.initiation(clock())
      send(member)
    }
  }
  onAnswer = () => undefined
  const answered = members.filter(({ initiator }) => initiator.verified()).length
  return { initiators: members.length, answered, cookies, seconds: after.at(-1) ?? Number.NaN, after }
}
