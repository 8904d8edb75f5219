import type { Contestant, Entry, Wire } from './contestant.ts'
import { entries } from './contestants.ts'
import { type Figures, idleMib, MEASURES, measure, NAMES, type Sample, summary } from './measure.ts'
import { type Result, type Row, ratios } from './report.ts'

const WIRES = ['whole', 'cut'] as const satisfies readonly Wire[]

export interface Effort {
  readonly rounds: number
  /** Of each stream. */
  readonly seconds: number
  /** No further round begins after this many seconds; at least one is made. */
  readonly patience: number
  readonly say: (text: string) => void
}

export interface Comparison {
  readonly results: readonly Result[]
  /** What is not in the tables, and why. */
  readonly notes: readonly string[]
}

/** Namespace to namespace over veth. */
export async function compareTunnels(
  options: Effort & {
    readonly quick: boolean
    /** Another build of our engine, to see what a change is worth. */
    readonly beside?: string | undefined
    /** Names of contestants; all without it. */
    readonly only?: readonly string[] | undefined
  },
): Promise<Comparison> {
  const { only, quick, beside, say } = options
  const all = entries(beside).filter(({ name }) => only?.includes(name) ?? true)
  const chosen = all.filter((entry) => !quick || entry.quick)
  const notes = all.filter((entry) => !chosen.includes(entry)).map(({ name }) => `left out by --quick: ${name}`)
  const opened: Contestant[] = []
  try {
    for (const entry of chosen) {
      const found = await open(entry)
      if ('missing' in found) notes.push(`${entry.name} is missing here: ${found.missing}`)
      else opened.push(found)
      say(`${entry.name}: ${'missing' in found ? found.missing : 'ready'}`)
    }
    return { results: await rounds('namespaces', opened, options), notes }
  } finally {
    for (const contestant of opened) await contestant.close()
  }
}

/** A peer that is there and does not come up is named as one that is not there: the others are measured all the same. */
async function open(entry: Entry): Promise<Contestant | { missing: string }> {
  try {
    return await entry.open()
  } catch (error) {
    if (entry.name.startsWith('pellicle')) throw error
    return { missing: `does not come up: ${error instanceof Error ? error.message : String(error)}` }
  }
}

/** Interleaved: every contestant on either kind of wire once per round. */
export async function rounds(
  where: Result['where'],
  contestants: readonly Contestant[],
  { rounds: count, seconds, patience, say }: Effort,
): Promise<readonly Result[]> {
  const samples = new Map<string, Sample[]>()
  const idle = new Map<Contestant, number>()
  for (const contestant of contestants) idle.set(contestant, await idleMib(contestant))
  const began = performance.now()
  for (let round = 1; round <= count; round++) {
    const roundBegan = performance.now()
    for (const wire of WIRES) {
      for (const contestant of contestants) {
        await contestant.setWire(wire)
        const sample = { ...(await measure(contestant, seconds)), idle: idle.get(contestant) ?? Number.NaN }
        const key = `${contestant.name} ${wire}`
        samples.set(key, [...(samples.get(key) ?? []), sample])
        say(`${where}, round ${round} of ${count}, ${wire}, ${contestant.name}: ${line(sample)}`)
      }
    }
    const now = performance.now()
    if (now - began + (now - roundBegan) > patience * 1000) break
  }
  return WIRES.map((wire) => {
    const rows = contestants.map((contestant): Row => {
      const { name, kind, ours, mtu } = contestant
      const found = samples.get(`${name} ${wire}`) ?? []
      const parts = found.at(-1)?.parts
      return { name, kind, ours, mtu, ...summary(found), ...(parts === undefined ? {} : { parts }) } satisfies Row &
        Figures
    })
    return { where, wire, rows, ratios: ratios(rows) }
  })
}

function line(sample: Sample): string {
  return NAMES.filter((name) => Number.isFinite(sample[name]))
    .map((name) => `${MEASURES[name].title.trim()} ${sample[name]?.toFixed(2)}`)
    .join(', ')
}
