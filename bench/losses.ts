import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Missing } from './contestant.ts'
import type { Ends } from './ends.ts'
import { ESP, ESP_IN_UDP } from './esp.ts'
import {
  EVENTS,
  type EventName,
  openEspSubject,
  openStrongswanSubject,
  openWireguardSubject,
  type Subject,
} from './events.ts'
import { OUR_PROGRAM, PEER_PROGRAMS, type WireguardProgram } from './programs.ts'
import { type Figure, figure } from './statistics.ts'
import { table } from './table.ts'
import { said } from './traffic.ts'

/*
 * What an event costs: 1,000 UDP packets a second and their echoes on a strict schedule, beside one TCP stream. A packet
 * whose echo does not come is lost, whichever way it was on.
 */

const PROBE = join(import.meta.dirname, '../test/kit/probe/main.ts')
const PORT = '7007'
const STREAM = '500M'
/** How long the tunnel is watched before an event and after it. */
const SETTLE_MS = 1000
/**
 * Between two events of which the second needs a handshake: begun less than 5 s after the last one it would wait
 * (REKEY_TIMEOUT), and pay for the event before. The rest of the 5 s is spent by the measurement itself.
 */
const REST_MS = 2000
const NAMES = Object.keys(EVENTS) as EventName[]

interface Loss {
  /** Packets; those of rounds without recovery up to the end of the wait. */
  readonly lost: Figure
  /** Rounds in which nothing came through again within the wait. */
  readonly gaveUp: number
}

interface LossRow {
  readonly name: string
  readonly ours: boolean
  readonly events: Partial<Record<EventName, Loss>>
}

export interface Losses {
  /** Packets a second. */
  readonly rate: number
  readonly stream: string
  /** Seconds that a recovery is waited for. */
  readonly wait: number
  readonly rows: readonly LossRow[]
  readonly notes: readonly string[]
}

interface Once {
  readonly lost: number
  readonly recovered: boolean
}

interface Entry {
  readonly name: string
  readonly ours: boolean
  readonly quick: boolean
  open(): Promise<Subject | Missing>
}

const wireguard = (program: WireguardProgram): Entry => ({
  name: program.name,
  ours: program.ours,
  quick: program.quick,
  open: async () => await openWireguardSubject(program),
})
const esp = (shape: typeof ESP): Entry => ({
  name: shape.name,
  ours: true,
  quick: shape === ESP_IN_UDP,
  open: async () => await openEspSubject(shape),
})

const ENTRIES: readonly Entry[] = [
  ...PEER_PROGRAMS.map(wireguard),
  { name: 'strongSwan libipsec', ours: false, quick: false, open: openStrongswanSubject },
  esp(ESP_IN_UDP),
  esp(ESP),
  wireguard(OUR_PROGRAM),
]

interface Options {
  readonly rounds: number
  readonly quick: boolean
  /** Seconds that a recovery is waited for. */
  readonly wait: number
  /** No further event is begun after this many seconds. */
  readonly patience: number
  readonly only: readonly string[] | undefined
  readonly say: (text: string) => void
}

/** One subject after the other, so that nobody's keepalives and timers are in anybody's way. */
export async function compareLosses(options: Options): Promise<Losses> {
  const { quick, wait, patience, only } = options
  const ends = performance.now() + patience * 1000
  const chosen = ENTRIES.filter(({ name, quick: too }) => (only?.includes(name) ?? true) && (too || !quick))
  const notes: string[] = []
  const rows: LossRow[] = []
  for (const entry of chosen) {
    const subject = await open(entry)
    if ('missing' in subject) {
      notes.push(`losses of ${entry.name} are missing here: ${subject.missing}`)
      continue
    }
    try {
      const found = await measureSubject(subject, options, ends, notes)
      rows.push({ name: entry.name, ours: entry.ours, events: summary(found) })
    } finally {
      await subject.close()
    }
  }
  return { rate: 1000, stream: STREAM, wait, rows, notes }
}

/** `ends`: when no further event is begun. Adds to `notes` what could not be measured. */
async function measureSubject(
  subject: Subject,
  { rounds, quick, wait, say }: Options,
  ends: number,
  notes: string[],
): Promise<ReadonlyMap<EventName, readonly Once[]>> {
  const found = new Map<EventName, Once[]>()
  let over = performance.now()
  for (let round = 1; round <= rounds; round++) {
    for (const name of NAMES) {
      const event = subject.events[name]
      if (event === undefined || (quick && !subject.quick.includes(name))) continue
      const what = `${subject.name}, ${EVENTS[name].title}`
      if (performance.now() > ends) {
        notes.push(`no time was left for losses: ${what}`)
        continue
      }
      if (EVENTS[name].handshake) await sleep(Math.max(0, over + REST_MS - performance.now()))
      let one: Once | undefined
      try {
        one = await measureLoss(subject.ends, event, wait)
      } catch (error) {
        if (subject.ours) throw error
        // such as a peer that ends when its keys are changed
        notes.push(`losses, ${what}: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`)
      }
      if (one !== undefined) found.set(name, [...(found.get(name) ?? []), one])
      say(`losses, round ${round} of ${rounds}, ${what}: ${one === undefined ? 'failed' : cellOf(one)}`)
      if (one?.recovered !== true) {
        try {
          await subject.reset()
        } catch (error) {
          if (subject.ours) throw error
          notes.push(`losses, ${what}: does not come up again afterwards`)
          return found
        }
      }
      over = performance.now()
    }
  }
  return found
}

async function open(entry: Entry): Promise<Subject | Missing> {
  try {
    return await entry.open()
  } catch (error) {
    if (entry.ours) throw error
    return { missing: `does not come up: ${error instanceof Error ? error.message : String(error)}` }
  }
}

/** From a second before the event until a second after packets pass again, or until the wait is over. */
async function measureLoss(ends: Ends, event: () => Promise<void>, wait: number): Promise<Once> {
  const echo = ends.start('b', process.execPath, [PROBE, 'echo', PORT])
  const server = ends.start('b', 'iperf3', ['-s', '-1', '--forceflush'])
  const children = [echo, server]
  const closed = [once(echo, 'close'), once(server, 'close')]
  try {
    await Promise.all([said(echo.stdout, /ready/), said(server.stdout, /listening/)])
    const client = ends.start('a', 'iperf3', ['-c', ends.to, '-C', 'cubic', '-b', STREAM, '-t', '600', '--forceflush'])
    children.push(client)
    closed.push(once(client, 'close'))
    await said(client.stdout, /connected to/)
    const sender = ends.start('a', process.execPath, [PROBE, 'send', ends.to, PORT, '--seconds', '600'])
    children.push(sender)
    closed.push(once(sender, 'close'))
    const result = said(sender.stdout, /\}\s*$/)
    // whoever waits for it does so later
    result.catch(() => undefined)
    await sleep(SETTLE_MS)
    await event()
    const recovered = await passes(ends, wait)
    await sleep(SETTLE_MS)
    sender.stdin?.end()
    return { lost: (JSON.parse(await result) as { lost: number }).lost, recovered }
  } finally {
    for (const child of children) child.kill('SIGTERM')
    await Promise.all(closed)
  }
}

async function passes(ends: Ends, wait: number): Promise<boolean> {
  const until = performance.now() + wait * 1000
  while (performance.now() < until) {
    // three in a row: the first may still go by what was before
    const there = await ends.run('a', 'ping', '-n', '-q', '-c', '3', '-i', '0.1', '-W', '1', '-w', '1', ends.to).then(
      (text) => / 0% packet loss/.test(text),
      () => false,
    )
    if (there) return true
  }
  return false
}

function summary(found: ReadonlyMap<EventName, readonly Once[]>): LossRow['events'] {
  const pairs = [...found].flatMap(([name, all]) => {
    const lost = figure(all.map((one) => one.lost))
    return lost === undefined
      ? []
      : [[name, { lost, gaveUp: all.filter(({ recovered }) => !recovered).length }] as const]
  })
  return Object.fromEntries(pairs)
}

export function printLosses({ rate, stream, wait, rows }: Losses): string {
  if (rows.length === 0) return ''
  const names = NAMES.filter((name) => rows.some(({ events }) => events[name] !== undefined))
  const lines = [
    ['packets lost', ...names.map((name) => EVENTS[name].title)],
    ...rows.map(({ name, events }) => [name, ...names.map((event) => cell(events[event]))]),
  ]
  const head = `Losses, ${rate.toLocaleString('en')} packets/s and their echoes beside ${stream}bit/s of TCP; ≥: nothing passed again within ${wait} s`
  return `${head}\n\n${table(lines)}`
}

function cellOf({ lost, recovered }: Once): string {
  return `${recovered ? '' : '≥ '}${lost}`
}

/** Median, and from smallest to largest where they differ. */
function cell(loss: Loss | undefined): string {
  if (loss === undefined) return '-'
  const { median, smallest, largest } = loss.lost
  const range = smallest === largest ? '' : ` [${smallest}-${largest}]`
  return `${loss.gaveUp > 0 ? '≥ ' : ''}${Math.round(median)}${range}`
}
