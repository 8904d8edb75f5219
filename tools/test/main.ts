import { spawn } from 'node:child_process'
import { globSync } from 'node:fs'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { add, type Count, countCargo, describe, NOTHING } from './count.ts'
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
for (const lanes of STAGES) {
  const turns = Turn.inOrder(lanes.length, process.stdout)
  await Promise.all(lanes.map((lane, index) => runLane(lane, turns[index] as Turn)))
}
const total = results.reduce(add, NOTHING)
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
  const stream = run({
    cwd: root,
    files,
    concurrency: suite.concurrency,
    isolation: 'process',
    timeout: suite.seconds * 1000,
  })
  const counted = new Promise<Count>((resolve) => {
    stream.on('test:summary', ({ file, counts }) => {
      if (file !== undefined) return
      // a file that dies before its first test is a failure of `counts.failed` as well
      resolve({
        passed: counts.passed,
        failed: counts.tests - counts.passed - counts.skipped - counts.todo,
        skipped: counts.skipped + counts.todo,
      })
    })
  })
  for await (const text of stream.compose(new spec())) turn.write(String(text))
  return await counted
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
