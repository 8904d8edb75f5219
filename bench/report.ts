import type { Kind, Wire } from './contestant.ts'
import { type Figures, MEASURES, type Measure, NAMES } from './measure.ts'
import { show } from './statistics.ts'
import { table } from './table.ts'

/** What one contestant reached. */
export interface Row extends Figures {
  readonly name: string
  readonly kind: Kind
  readonly ours: boolean
  readonly mtu: number
  /** Peak of each of its processes at one end, MiB. */
  readonly parts?: Readonly<Record<string, number>>
}

/** One row of ours against one of the others, by medians. */
export interface Ratio {
  readonly ours: string
  /** A peer by name, or `best peer`: the best of its kind, of each column for itself. */
  readonly against: string
  readonly values: Partial<Record<Measure, number>>
}

export interface Result {
  /** Between what. */
  readonly where: 'namespaces' | 'pods'
  readonly wire: Wire
  readonly rows: readonly Row[]
  readonly ratios: readonly Ratio[]
}

/** The peer that each of ours is measured against in the first place. */
const REFERENCE: Readonly<Record<Kind, string>> = {
  none: '',
  wireguard: 'wireguard-go',
  ipsec: 'strongSwan libipsec',
}

export function ratios(rows: readonly Row[]): readonly Ratio[] {
  return rows
    .filter(({ ours }) => ours)
    .flatMap((row) => {
      const peers = rows.filter(({ kind, ours }) => kind === row.kind && !ours)
      const reference = peers.filter(({ name }) => name === REFERENCE[row.kind])
      const found = reference.map((peer) => ratio(row, peer.name, [peer]))
      return peers.length > 1 ? [...found, ratio(row, 'best peer', peers)] : found
    })
}

function ratio(row: Row, against: string, peers: readonly Row[]): Ratio {
  const pairs = NAMES.map((name) => {
    const medians = peers.map((peer) => peer[name]?.median ?? Number.NaN).filter(Number.isFinite)
    const best = MEASURES[name].more ? Math.max(...medians) : Math.min(...medians)
    return [name, (row[name]?.median ?? Number.NaN) / best] as const
  })
  return { ours: row.name, against, values: Object.fromEntries(pairs.filter(([, value]) => Number.isFinite(value))) }
}

export function print({ where, wire, rows, ratios: found }: Result): string {
  const how = { whole: 'veth as it is (super packets stay whole)', cut: 'segments cut on the way' }[wire]
  const names = NAMES.filter((name) => rows.some((row) => row[name] !== undefined))
  const lines = [
    ['median ±%', ...names.map((name) => MEASURES[name].title)],
    ...rows.map((row) => [row.name, ...names.map((name) => show(row[name]))]),
    ...found.map(({ ours, against, values }) => [
      `${ours} ÷ ${against}`,
      ...names.map((name) => verdict(name, values[name])),
    ]),
  ]
  const parts = rows.flatMap(({ name, ours, parts: of }) => {
    if (!ours || of === undefined || Object.keys(of).length < 2) return []
    return [
      `${name}, MiB peak: ${Object.entries(of)
        .map(([part, mib]) => `${part} ${mib.toFixed(1)}`)
        .join(', ')}`,
    ]
  })
  return [`${where === 'pods' ? 'Pod to pod' : 'Namespace to namespace'}, ${how}\n\n${table(lines)}`, ...parts].join(
    '\n',
  )
}

/** `2.31 ✓` where we are better, `1.20 ✗` where we lose. */
function verdict(name: Measure, value: number | undefined): string {
  if (value === undefined) return '-'
  const better = MEASURES[name].more ? value > 1 : value < 1
  return `${value.toFixed(2)} ${better ? '✓' : value === 1 ? '=' : '✗'}`
}
