import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { missingForTunnels } from '#test/kit/tunnel-lab.ts'
import { type Comparison, compareTunnels } from './compare.ts'
import { printGoals } from './goals.ts'
import { compareHandshakes, printHandshakes } from './handshakes.ts'
import { compareLosses, printLosses } from './losses.ts'
import { load, machine } from './machine.ts'
import { picture } from './picture.ts'
import { comparePods } from './pods.ts'
import { print } from './report.ts'

// make bench: no tunnel, the peers and us in the same run, in interleaved rounds; namespace to namespace, then pod to pod.
// What is lost is printed as plainly as what is won. Machines differ by tens of per cent from hour to hour: only ratios
// inside one run count.
//
//   main.ts [--quick] [--part PART]… [--rounds N] [--seconds N] [--no-file] [--no-pods] [--only NAME]… [--beside ENGINE]
const PARTS = ['handshakes', 'losses', 'streams', 'pods'] as const
type Part = (typeof PARTS)[number]

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    part: { type: 'string', multiple: true },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    beside: { type: 'string' },
    only: { type: 'string', multiple: true },
    'no-file': { type: 'boolean', default: false },
    'no-pods': { type: 'boolean', default: false },
  },
})

/** `--quick` is done within four minutes; what comes last, the streams, has what the rest leaves of this. */
const QUICK_SECONDS = 205
const QUICK_LOSS_SECONDS = 60
/** An event takes five seconds, and there are forty in a round. */
const LOSS_ROUNDS = 3

const missing = missingForTunnels('iperf3', 'ping', 'ethtool')
if (missing !== undefined) {
  console.error(`bench cannot run: ${missing}`)
  process.exit(1)
}
const { quick, beside } = values
const parts = partsOf(values.part)
// a name may hold a comma and a space, a list has commas alone
const only = values.only?.flatMap((text) => (text.includes(', ') ? [text] : text.split(',')))
// Asked to end, it ends between two measurements, and takes its namespaces and processes along.
let interrupted = false
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    interrupted = true
  })
}
const say = (text: string) => {
  if (interrupted) throw new Error('interrupted')
  console.error(text)
}
const rounds = wholeNumber('--rounds', values.rounds) ?? (quick ? 3 : 5)
const seconds = wholeNumber('--seconds', values.seconds) ?? (quick ? 1 : 2)
const loads = { before: load() }
const began = performance.now()

const handshakes = parts.has('handshakes')
  ? await compareHandshakes({ rounds: quick ? 2 : rounds, initiators: 2000, wait: quick ? 6 : 12, quick, only, say })
  : undefined
if (handshakes !== undefined) show([printHandshakes(handshakes), ...handshakes.notes])
const losses = parts.has('losses')
  ? await compareLosses({
      rounds: quick ? 1 : Math.min(rounds, LOSS_ROUNDS),
      quick,
      wait: quick ? 5 : 15,
      patience: quick ? QUICK_LOSS_SECONDS : Number.POSITIVE_INFINITY,
      only,
      say,
    })
  : undefined
if (losses !== undefined) show([printLosses(losses), ...losses.notes])
const patience = quick ? QUICK_SECONDS - (performance.now() - began) / 1000 : Number.POSITIVE_INFINITY
const effort = { rounds, seconds, patience, say }
const nothing: Comparison = { results: [], notes: [] }
const tunnels = parts.has('streams') ? await compareTunnels({ ...effort, quick, beside, only }) : nothing
show([...tunnels.results.map(print), ...tunnels.notes])
show([printGoals(tunnels.results, handshakes)])
const pods = parts.has('pods') ? await comparePods(effort) : nothing
show([...pods.results.map(print), ...pods.notes])
// a part alone is for whoever asked: the files stand for a whole run
if (!values['no-file'] && values.part === undefined) await keep()

function wholeNumber(flag: string, text: string | undefined): number | undefined {
  if (text === undefined || /^[1-9][0-9]{0,3}$/.test(text)) return text === undefined ? undefined : Number(text)
  throw new TypeError(`${flag} ${text}: a whole number from 1 to 9999 is needed`)
}

function partsOf(wished: readonly string[] | undefined): ReadonlySet<Part> {
  const unknown = wished?.find((part) => !PARTS.includes(part as Part))
  if (unknown !== undefined) throw new TypeError(`--part ${unknown}: there are ${PARTS.join(', ')}`)
  if (wished !== undefined) return new Set(wished as Part[])
  return new Set(PARTS.filter((part) => part !== 'pods' || !(quick || values['no-pods'])))
}

function show(texts: readonly string[]): void {
  const some = texts.filter((text) => text !== '')
  if (some.length > 0) console.log(`\n${some.join('\n\n')}`)
}

async function keep(): Promise<void> {
  const folder = join(import.meta.dirname, 'results')
  await mkdir(folder, { recursive: true })
  const results = [...tunnels.results, ...pods.results]
  const notes = [...tunnels.notes, ...pods.notes, ...(parts.has('pods') ? [] : ['pod to pod: left out'])]
  const data = {
    machine: await machine(),
    load: { ...loads, after: load() },
    rounds,
    seconds,
    streams: [1, 4],
    notes,
    results,
    handshakes,
    losses,
  }
  const name = join(folder, `${new Date().toISOString().slice(0, 10)}${quick ? '-quick' : ''}`)
  await writeFile(`${name}.json`, `${JSON.stringify(data, undefined, 2)}\n`)
  await writeFile(`${name}.svg`, picture(tunnels.results, data.machine))
  console.error(`written: ${name}.json and .svg`)
}
