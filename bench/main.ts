import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { missingForTunnels } from '#test/kit/tunnel-lab.ts'
import { machine } from './machine.ts'
import { compareTunnels } from './tunnels.ts'

// make bench: plain veth, the newest wireguard-go and us in the same run, in interleaved rounds. What is lost is printed
// as plainly as what is won. Machines differ by tens of per cent from hour to hour: only ratios inside one run count.
//
//   main.ts [--quick] [--rounds N] [--seconds N] [--no-file] [--beside ENGINE]
const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    beside: { type: 'string' },
    'no-file': { type: 'boolean', default: false },
  },
})

const missing = missingForTunnels('iperf3', 'ping', 'ethtool')
if (missing !== undefined) {
  console.error(`bench cannot run: ${missing}`)
  process.exit(1)
}
const rounds = Number(values.rounds ?? (values.quick ? 3 : 5))
const seconds = Number(values.seconds ?? (values.quick ? 1 : 2))
const found = await compareTunnels({ rounds, seconds, beside: values.beside, say: (text) => console.error(text) })
console.log(found.text)
if (!values['no-file']) await keep('tunnels', { machine: await machine(), rounds, seconds, ...found.data })

async function keep(what: string, data: object): Promise<void> {
  const folder = join(import.meta.dirname, 'results')
  await mkdir(folder, { recursive: true })
  const file = join(folder, `${new Date().toISOString().slice(0, 10)}-${what}.json`)
  await writeFile(file, `${JSON.stringify(data, undefined, 2)}\n`)
  console.error(`written: ${file}`)
}
