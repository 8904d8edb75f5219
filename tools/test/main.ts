import { spawn } from 'node:child_process'
import { globSync } from 'node:fs'
import { relative } from 'node:path'
import { add, type Count, countCargo, describe, NOTHING } from './count.ts'
import { runNodeFiles } from './node-files.ts'
import { withSecondTry } from './second-try.ts'
import { STAGES, type Suite } from './suites.ts'
import { Turn } from './turn.ts'

// make test [SUITES=unit,engine]: runs the suites, each with its own closing line, and sums them up in the last line.
const root = new URL('../..', import.meta.url).pathname
const names = STAGES.flat(2).map(({ name }) => name)
const wanted = process.argv[2]?.split(',') ?? names
const unknown = wanted.filter((name) => !names.includes(name))
if (unknown.length > 0) {
  console.error(`no suite is called ${unknown.join(', ')}; there are: ${names.join(', ')}`)
  process.exit(2)
}

const results: Count[] = []
/** Failed at first. */
const passedLate: string[] = []
for (const lanes of STAGES) {
  const turns = Turn.inOrder(lanes.length, process.stdout)
  await Promise.all(lanes.map((lane, index) => runLane(lane, turns[index] as Turn)))
}
const total = results.reduce(add, NOTHING)
if (passedLate.length > 0) console.log(`\nfailed at first and passed at the second try: ${passedLate.join(', ')}`)
console.log(`\n${describe(total)}`)
if (total.failed > 0 || total.passed === 0) process.exitCode = 1

async function runLane(lane: readonly Suite[], turn: Turn): Promise<void> {
  for (const suite of lane.filter(({ name }) => wanted.includes(name))) {
    const started = performance.now()
    turn.write(`\n== ${suite.name}\n`)
    const count = suite.cargo === undefined ? await runNode(suite, turn) : await runCargo(suite.cargo, turn)
    turn.write(`${suite.name}: ${describe(count)} (${((performance.now() - started) / 1000).toFixed(1)} s)\n`)
    results.push(count)
  }
  turn.end()
}

async function runNode(suite: Suite, turn: Turn): Promise<Count> {
  const files = globSync([...(suite.files ?? [])], { cwd: root, exclude: ['**/node_modules/**'] }).toSorted()
  if (files.length === 0) return NOTHING
  const { counts, second } = await withSecondTry(
    files.map((file) => `${root}${file}`),
    async (some, again) => {
      if (again) turn.write(`\n-- once more: ${some.map(nameOf).join(', ')}\n`)
      return await runNodeFiles(some, again ? { ...suite, concurrency: 1 } : suite, (text) => turn.write(text))
    },
  )
  passedLate.push(...second.map(nameOf))
  return [...counts.values()].reduce(add, NOTHING)
}

function nameOf(file: string): string {
  return relative(root, file)
}

async function runCargo(folder: string, turn: Turn): Promise<Count> {
  const child = spawn('cargo', ['test', '--locked', '--no-fail-fast'], {
    cwd: `${root}/${folder}`,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString()
    turn.write(chunk.toString())
  })
  child.stderr.on('data', (chunk: Buffer) => turn.write(chunk.toString()))
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve))
  const count = countCargo(output)
  // a crate that does not compile, or a test binary that dies, runs no test: that is a failure all the same
  return code !== 0 && count.failed === 0 ? { ...count, failed: 1 } : count
}
