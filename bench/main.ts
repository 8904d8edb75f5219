import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { missingForTunnels } from '#test/kit/tunnel-lab.ts'
import { type Comparison, compareTunnels } from './compare.ts'
import { printGoals } from './goals.ts'
import { machine } from './machine.ts'
import { picture } from './picture.ts'
import { comparePods } from './pods.ts'
import { print } from './report.ts'

// make bench: no tunnel, the peers and us in the same run, in interleaved rounds; namespace to namespace, then pod to pod.
// What is lost is printed as plainly as what is won. Machines differ by tens of per cent from hour to hour: only ratios
// inside one run count.
//
//   main.ts [--quick] [--rounds N] [--seconds N] [--no-file] [--no-pods] [--only NAME,…] [--beside ENGINE]
const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    beside: { type: 'string' },
    only: { type: 'string' },
    'no-file': { type: 'boolean', default: false },
    'no-pods': { type: 'boolean', default: false },
  },
})

/** `--quick` is done within three minutes. */
const QUICK_SECONDS = 160

const missing = missingForTunnels('iperf3', 'ping', 'ethtool')
if (missing !== undefined) {
  console.error(`bench cannot run: ${missing}`)
  process.exit(1)
}
const { quick, beside } = values
const effort = {
  rounds: Number(values.rounds ?? (quick ? 3 : 5)),
  seconds: Number(values.seconds ?? (quick ? 1 : 2)),
  patience: quick ? QUICK_SECONDS : Number.POSITIVE_INFINITY,
  say: (text: string) => console.error(text),
}
const tunnels = await compareTunnels({ ...effort, quick, beside, only: values.only?.split(',') })
show(tunnels)
console.log(`\n${printGoals(tunnels.results)}`)
const pods = quick || values['no-pods'] ? { results: [], notes: ['pod to pod: left out'] } : await comparePods(effort)
show(pods)
if (!values['no-file']) await keep()

function show({ results, notes }: Comparison): void {
  console.log(`\n${[...results.map(print), ...notes].join('\n\n')}`)
}

async function keep(): Promise<void> {
  const folder = join(import.meta.dirname, 'results')
  await mkdir(folder, { recursive: true })
  const results = [...tunnels.results, ...pods.results]
  const notes = [...tunnels.notes, ...pods.notes]
  const { rounds, seconds } = effort
  const data = { machine: await machine(), rounds, seconds, mtu: 1420, streams: [1, 4], notes, results }
  const name = join(folder, `${new Date().toISOString().slice(0, 10)}${quick ? '-quick' : ''}`)
  await writeFile(`${name}.json`, `${JSON.stringify(data, undefined, 2)}\n`)
  await writeFile(`${name}.svg`, picture(tunnels.results, data.machine))
  console.error(`written: ${name}.json and .svg`)
}
