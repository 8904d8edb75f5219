import type { Contestant, Processes } from './contestant.ts'
import { cpuOf, forgetPeaks, peakMib, residentMib } from './processes.ts'
import { type Figure, figure } from './statistics.ts'
import { ping, pingUnderLoad, tcp, udp } from './traffic.ts'

/** What is measured, its unit, and whether more is better. */
export const MEASURES = {
  tcp1: { title: 'TCP×1 Gbit/s', more: true },
  tcp4: { title: 'TCP×4 Gbit/s', more: true },
  udp: { title: 'UDP 64 B kpps', more: true },
  lost: { title: 'lost %', more: false },
  p50: { title: 'ping p50 µs', more: false },
  p99: { title: 'p99 µs', more: false },
  loaded50: { title: 'under load p50', more: false },
  loaded99: { title: 'p99 µs ', more: false },
  cpu: { title: 'CPU s/GB', more: false },
  idle: { title: 'MiB idle', more: false },
  peak: { title: 'MiB peak', more: false },
} as const

export type Measure = keyof typeof MEASURES
export const NAMES = Object.keys(MEASURES) as Measure[]
export interface Sample extends Partial<Record<Measure, number>> {
  readonly parts?: Readonly<Record<string, number>>
}
export type Figures = Partial<Record<Measure, Figure>>

const PINGS = 250

/**
 * One round of everything. Memory is that of all processes at one end, CPU of those at both ends. `parts`: peak of each
 * process at end b, in MiB.
 */
export async function measure(contestant: Contestant, seconds: number): Promise<Sample> {
  const { ends } = contestant
  const [a, b] = await contestant.processes()
  const all = [...Object.values(a), ...Object.values(b)]
  const here = Object.values(b)
  const tunnel = all.length > 0
  await forgetPeaks(all)
  const { p50, p99 } = await ping(ends, PINGS)
  const before = await cpuOf(all)
  const one = await tcp(ends, seconds, 1)
  const cpu = tunnel ? ((await cpuOf(all)) - before) / (one.bytes / 1e9) : Number.NaN
  const four = await tcp(ends, seconds, 4)
  const small = await udp(ends, seconds)
  const loaded = await pingUnderLoad(ends, PINGS)
  return {
    tcp1: one.gigabits,
    tcp4: four.gigabits,
    udp: small.received,
    lost: small.lost,
    p50,
    p99,
    loaded50: loaded.p50,
    loaded99: loaded.p99,
    cpu,
    peak: tunnel ? await peakMib(here) : Number.NaN,
    parts: await partsOf(b),
  }
}

/** Before anything was measured: what it holds without having worked. */
export async function idleMib(contestant: Contestant): Promise<number> {
  const [, b] = await contestant.processes()
  const pids = Object.values(b)
  return pids.length > 0 ? await residentMib(pids) : Number.NaN
}

export function summary(samples: readonly Sample[]): Figures {
  const pairs = NAMES.map((name) => [name, figure(samples.map((sample) => sample[name] ?? Number.NaN))] as const)
  return Object.fromEntries(pairs.filter(([, found]) => found !== undefined))
}

async function partsOf(processes: Processes): Promise<Readonly<Record<string, number>>> {
  const pairs = Object.entries(processes).map(async ([name, pid]) => [name, await peakMib([pid])] as const)
  return Object.fromEntries(await Promise.all(pairs))
}
