import type { Machine } from './machine.ts'
import type { Measure } from './measure.ts'
import type { Result, Row } from './report.ts'
import { digits } from './statistics.ts'

// The picture of the README: three measures, a bar for each contestant, on both kinds of wire. Drawn by hand: a chart
// library would be larger than the chart.

const PANELS: readonly { readonly measure: Measure; readonly title: string }[] = [
  { measure: 'tcp1', title: 'one TCP stream, Gbit/s' },
  { measure: 'udp', title: '64-byte packets received, thousands/s' },
  { measure: 'cpu', title: 'CPU seconds per GB, both ends (less is better)' },
]

const WIDTH = 780
const LEFT = 170
const RIGHT = 70
const BAR = 9
const ROW = 2 * BAR + 9
const HEAD = 30
const TOP = 44

/** An SVG that follows the reader's light or dark. */
export function picture(results: readonly Result[], { cpu, cores, kernel }: Machine): string {
  const of = (wire: Result['wire']) =>
    results.find((result) => result.where === 'namespaces' && result.wire === wire)?.rows ?? []
  const [whole, cut] = [of('whole'), of('cut')]
  let top = TOP
  const panels = PANELS.map(({ measure, title }) => {
    // without a tunnel everything else would be a hair's breadth: that row is in the tables
    const rows = whole.filter((row) => row.kind !== 'none' && row[measure] !== undefined)
    const drawn = panel(title, measure, rows, cut, top)
    top += HEAD + rows.length * ROW + 14
    return drawn
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${top + 22}" font-family="system-ui, sans-serif" font-size="12">
<title>Throughput and cost beside other userspace tunnels</title>
<style>
  text { fill: #1f2328 } .quiet { fill: #59636e } .ours { fill: #0a7d5c } .ours.cut { fill: #6cc3a8 } .peer { fill: #8b949e } .peer.cut { fill: #c9d1d9 }
  @media (prefers-color-scheme: dark) { text { fill: #f0f6fc } .quiet { fill: #9198a1 } .ours { fill: #2fbf91 } .ours.cut { fill: #1a6b52 } .peer { fill: #7d8590 } .peer.cut { fill: #444c56 } }
</style>
<rect class="peer" x="${LEFT}" y="12" width="12" height="${BAR}"/><text x="${LEFT + 18}" y="21">super packets whole (veth)</text>
<rect class="peer cut" x="${LEFT + 220}" y="12" width="12" height="${BAR}"/><text x="${LEFT + 238}" y="21">segments cut on the way</text>
${panels.join('\n')}
<text class="quiet" x="10" y="${top + 12}">Medians of one run, whisker: smallest and largest. ${escape(cpu)}, ${cores} cores, Linux ${escape(kernel)}.</text>
</svg>
`
}

function panel(title: string, measure: Measure, rows: readonly Row[], cut: readonly Row[], top: number): string {
  const beside = rows.map((row) => cut.find(({ name }) => name === row.name))
  const largest = Math.max(...[...rows, ...beside].map((row) => row?.[measure]?.largest ?? 0))
  const scale = (value: number) => ((WIDTH - LEFT - RIGHT) * value) / largest
  const bars = rows.flatMap((row, index) => {
    const y = top + HEAD + index * ROW
    const name = `<text x="${LEFT - 8}" y="${y + BAR + 5}" text-anchor="end"${row.ours ? ' font-weight="600"' : ''}>${escape(row.name)}</text>`
    return [name, bar(row, measure, y, scale, ''), bar(beside[index], measure, y + BAR + 1, scale, ' cut')]
  })
  return [`<text x="10" y="${top + 18}" font-weight="600">${escape(title)}</text>`, ...bars].join('\n')
}

function bar(row: Row | undefined, measure: Measure, y: number, scale: (value: number) => number, cut: string): string {
  const found = row?.[measure]
  if (row === undefined || found === undefined) return ''
  const [width, from, to] = [found.median, found.smallest, found.largest].map((value) => scale(value).toFixed(1))
  const middle = y + BAR / 2
  const whisker = `<path class="quiet" d="M${LEFT + Number(from)} ${middle}H${LEFT + Number(to)}" stroke="#59636e"/>`
  const label = `<text class="quiet" x="${LEFT + Number(to) + 6}" y="${y + BAR - 1}" font-size="10">${digits(found.median)}</text>`
  return `<rect class="${row.ours ? 'ours' : 'peer'}${cut}" x="${LEFT}" y="${y}" width="${width}" height="${BAR}"/>${whisker}${label}`
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
