import type { Handshakes } from './handshakes.ts'
import type { Measure } from './measure.ts'
import type { Result } from './report.ts'
import { table } from './table.ts'

/** What we set out to reach against the peers, whole super packets, namespace to namespace. */
interface Goal {
  readonly what: string
  readonly ours: string
  readonly against: string
  readonly measure: Measure
  readonly reach: number
  readonly stretch: number
}

const WIREGUARD = { ours: 'pellicle', against: 'wireguard-go' } as const
const BEST = { ours: 'pellicle', against: 'best peer' } as const
const ESP = { against: 'strongSwan libipsec', measure: 'tcp1' } as const

const GOALS: readonly Goal[] = [
  { what: 'WireGuard TCP×1', ...WIREGUARD, measure: 'tcp1', reach: 2.3, stretch: 3 },
  { what: 'WireGuard TCP×4', ...WIREGUARD, measure: 'tcp4', reach: 2.3, stretch: 3 },
  { what: 'WireGuard UDP 64 B received', ...BEST, measure: 'udp', reach: 2, stretch: 3 },
  { what: 'WireGuard ping p50', ...BEST, measure: 'p50', reach: 1, stretch: 0.5 },
  { what: 'WireGuard ping p99', ...BEST, measure: 'p99', reach: 1, stretch: 0.5 },
  { what: 'WireGuard CPU per GB', ...WIREGUARD, measure: 'cpu', reach: 0.4, stretch: 0.3 },
  { what: 'ESP in UDP TCP×1', ours: 'pellicle ESP in UDP', ...ESP, reach: 12, stretch: 15 },
  { what: 'ESP native TCP×1', ours: 'pellicle ESP', ...ESP, reach: 4, stretch: 8 },
  { what: 'ESP through VXLAN TCP×1', ours: 'pellicle ESP in VXLAN', ...ESP, reach: 1.5, stretch: 3 },
]

/** Peak MiB of one process of ours. */
const MEMORY = [
  { what: 'engine, MiB peak', part: 'engine', reach: 32, stretch: 16 },
  { what: 'keeper, MiB peak', part: 'keeper', reach: 90, stretch: 70 },
] as const

/** Of a responder, by its processes' CPU time. */
const HANDSHAKES = { what: 'handshakes per core and s ÷ wireguard-go', reach: 1, stretch: 2 } as const
/** Seconds. */
const AT_ONCE = { reach: 3, stretch: 1.5 } as const

/** A line for each goal that was measured. */
export function printGoals(results: readonly Result[], handshakes?: Handshakes): string {
  const of = (wire: Result['wire']) => results.find((result) => result.where === 'namespaces' && result.wire === wire)
  const [whole, cut] = [of('whole'), of('cut')]
  const ratio = (result: Result | undefined, { ours, against, measure }: Goal) =>
    result?.ratios.find((one) => one.ours === ours && one.against === against)?.values[measure]
  const lines = GOALS.flatMap((goal) => {
    const value = ratio(whole, goal)
    if (value === undefined) return []
    const beside = `${goal.what} ÷ ${goal.against}`
    return [
      [
        beside,
        value.toFixed(2),
        ratio(cut, goal)?.toFixed(2) ?? '-',
        `${goal.reach}`,
        `${goal.stretch}`,
        judge(value, goal),
      ],
    ]
  })
  const parts = whole?.rows.find(({ name }) => name === 'pellicle')?.parts
  const memory = MEMORY.flatMap((goal) => {
    const value = parts?.[goal.part]
    if (value === undefined) return []
    return [[goal.what, value.toFixed(1), '-', `${goal.reach}`, `${goal.stretch}`, judge(value, goal)]]
  })
  const all = [...lines, ...memory, ...(handshakes === undefined ? [] : handshakeLines(handshakes))]
  if (all.length === 0) return ''
  return table([['goals', 'whole', 'cut', 'to reach', 'stretch', 'whole super packets'], ...all])
}

/** They have no segments that could be cut. */
function handshakeLines({ initiators, rows }: Handshakes): readonly (readonly string[])[] {
  const of = (name: string) => rows.find((row) => row.name === name)
  const [ours, theirs] = [of('pellicle'), of('wireguard-go')]
  const line = (what: string, value: number, goal: { readonly reach: number; readonly stretch: number }) => [
    what,
    Number.isFinite(value) ? value.toFixed(2) : 'never',
    '-',
    `${goal.reach}`,
    `${goal.stretch}`,
    judge(value, goal),
  ]
  const beside = (ours?.perCore?.median ?? Number.NaN) / (theirs?.perCore?.median ?? Number.NaN)
  return [
    ...(Number.isFinite(beside) ? [line(HANDSHAKES.what, beside, HANDSHAKES)] : []),
    ...(ours === undefined
      ? []
      : [line(`${initiators} peers at once, all up after s`, ours.last?.median ?? Number.POSITIVE_INFINITY, AT_ONCE)]),
  ]
}

/** More is better where the stretch lies above what is to reach. */
function judge(value: number, { reach, stretch }: { reach: number; stretch: number }): string {
  const atLeast = (bound: number) => (stretch > reach ? value >= bound : value <= bound)
  return atLeast(stretch) ? '✓ stretch' : atLeast(reach) ? '✓ reached' : '✗ missed'
}
