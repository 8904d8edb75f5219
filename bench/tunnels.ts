import { type Contestant, openOurs, openPlain, openWireguardGo, setWire, type Wire } from './contestants.ts'
import { cpuOf, peakMib } from './processes.ts'
import { type Figure, figure, show } from './statistics.ts'
import { table } from './table.ts'
import { ping, tcp, udp } from './traffic.ts'

const WIRES = ['whole', 'cut'] as const satisfies readonly Wire[]

/** What is measured, its unit, and whether more is better. */
const MEASURES = {
  tcp1: { title: 'TCP×1 Gbit/s', more: true },
  tcp4: { title: 'TCP×4 Gbit/s', more: true },
  udp: { title: 'UDP 64 B kpps', more: true },
  lost: { title: 'lost %', more: false },
  p50: { title: 'ping p50 µs', more: false },
  p99: { title: 'p99 µs', more: false },
  cpu: { title: 'CPU s/GB', more: false },
  rss: { title: 'peak MiB', more: false },
} as const

type Measure = keyof typeof MEASURES
const NAMES = Object.keys(MEASURES) as Measure[]
type Sample = Partial<Record<Measure, number>>
type Figures = Partial<Record<Measure, Figure>>

export interface Comparison {
  readonly text: string
  readonly data: object
}

/** Namespace to namespace over veth: interleaved rounds of everything that can be had, on both kinds of wire. */
export async function compareTunnels(options: {
  rounds: number
  seconds: number
  /** Another build of our engine, to see what a change is worth. */
  beside?: string | undefined
  say: (text: string) => void
}): Promise<Comparison> {
  const opened: Contestant[] = []
  const notes: string[] = []
  const samples = new Map<string, Sample[]>()
  try {
    opened.push(await openPlain())
    const peer = await openWireguardGo()
    if ('missing' in peer) notes.push(`wireguard-go is missing here: ${peer.missing}`)
    else opened.push(peer)
    opened.push(await openOurs())
    if (options.beside !== undefined) opened.push(await openOurs(options.beside))
    for (let round = 1; round <= options.rounds; round++) {
      for (const wire of WIRES) {
        for (const contestant of opened) {
          await setWire(contestant, wire)
          const sample = await measure(contestant, options.seconds)
          const key = `${contestant.name} ${wire}`
          samples.set(key, [...(samples.get(key) ?? []), sample])
          options.say(`round ${round} of ${options.rounds}, ${wire}, ${contestant.name}: ${line(sample)}`)
        }
      }
    }
  } finally {
    for (const { lab } of opened) await lab.close()
  }
  const names = opened.map(({ name }) => name)
  const results = WIRES.map((wire) => {
    const rows = names.map((name) => ({ name, ...summary(samples.get(`${name} ${wire}`) ?? []) }))
    return { wire, rows, ratios: ratios(rows) }
  })
  return { text: [...results.map(print), ...notes].join('\n\n'), data: { mtu: 1420, streams: [1, 4], notes, results } }
}

async function measure(contestant: Contestant, seconds: number): Promise<Sample> {
  const { lab, to } = contestant
  const { p50, p99 } = await ping(lab, to, 250)
  const pids = await contestant.pids()
  const before = await cpuOf(pids)
  const one = await tcp(lab, to, seconds, 1)
  const cpu = pids.length === 0 ? Number.NaN : ((await cpuOf(pids)) - before) / (one.bytes / 1e9)
  const four = await tcp(lab, to, seconds, 4)
  const small = await udp(lab, to, seconds)
  const largest = await contestant.largest()
  const rss = largest === undefined ? Number.NaN : await peakMib(largest)
  return { tcp1: one.gigabits, tcp4: four.gigabits, udp: small.received, lost: small.lost, p50, p99, cpu, rss }
}

function summary(samples: readonly Sample[]): Figures {
  const pairs = NAMES.map((name) => [name, figure(samples.map((sample) => sample[name] ?? Number.NaN))] as const)
  return Object.fromEntries(pairs.filter(([, found]) => found !== undefined))
}

/** Ours over wireguard-go's, by medians. */
function ratios(rows: readonly ({ name: string } & Figures)[]): Partial<Record<Measure, number>> | undefined {
  const [ours, peer] = ['pellicle', 'wireguard-go'].map((name) => rows.find((row) => row.name === name))
  if (ours === undefined || peer === undefined) return undefined
  const pairs = NAMES.map(
    (name) => [name, (ours[name]?.median ?? Number.NaN) / (peer[name]?.median ?? Number.NaN)] as const,
  )
  return Object.fromEntries(pairs.filter(([, ratio]) => Number.isFinite(ratio)))
}

function print(result: {
  wire: Wire
  rows: readonly ({ name: string } & Figures)[]
  ratios: Partial<Record<Measure, number>> | undefined
}): string {
  const title = { whole: 'veth as it is (super packets stay whole)', cut: 'segments cut on the way' }[result.wire]
  const rows = [
    ['', ...NAMES.map((name) => MEASURES[name].title)],
    ...result.rows.map((row) => [row.name, ...NAMES.map((name) => show(row[name]))]),
  ]
  if (result.ratios !== undefined)
    rows.push(['ours ÷ wireguard-go', ...NAMES.map((name) => verdict(name, result.ratios?.[name]))])
  return `${title}\n\n${table(rows)}`
}

/** `2.31 ✓` where we are better, `1.20 ✗` where we lose. */
function verdict(name: Measure, ratio: number | undefined): string {
  if (ratio === undefined) return '-'
  const better = MEASURES[name].more ? ratio > 1 : ratio < 1
  return `${ratio.toFixed(2)} ${better ? '✓' : '✗'}`
}

function line(sample: Sample): string {
  return NAMES.filter((name) => Number.isFinite(sample[name]))
    .map((name) => `${MEASURES[name].title} ${sample[name]?.toFixed(2)}`)
    .join(', ')
}
