import { spawn } from 'node:child_process'
import { globSync } from 'node:fs'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { add, type Count, countCargo, describe, NOTHING } from './count.ts'
import { SUITES, type Suite } from './suites.ts'

// make test [SUITES=unit,engine]: runs the suites, each with its own closing line, and sums them up in the last line.
const root = new URL('../..', import.meta.url).pathname
const wanted = process.argv[2]?.split(',')
const unknown = wanted?.filter((name) => !SUITES.some((suite) => suite.name === name)) ?? []
if (unknown.length > 0) {
  console.error(`no suite is called ${unknown.join(', ')}; there are: ${SUITES.map((suite) => suite.name).join(', ')}`)
  process.exit(2)
}

let total = NOTHING
for (const suite of SUITES.filter(({ name }) => wanted?.includes(name) ?? true)) {
  const started = performance.now()
  console.log(`\n== ${suite.name}`)
  const count = suite.cargo === undefined ? await runNode(suite) : await runCargo(suite.cargo)
  console.log(`${suite.name}: ${describe(count)} (${((performance.now() - started) / 1000).toFixed(1)} s)`)
  total = add(total, count)
}
console.log(`\n${describe(total)}`)
if (total.failed > 0 || total.passed === 0) process.exitCode = 1

async function runNode(suite: Suite): Promise<Count> {
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
  stream.compose(new spec()).pipe(process.stdout, { end: false })
  return await counted
}

async function runCargo(folder: string): Promise<Count> {
  const child = spawn('cargo', ['test', '--release', '--locked', '--no-fail-fast'], {
    cwd: `${root}/${folder}`,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString()
    process.stdout.write(chunk)
  })
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve))
  const count = countCargo(output)
  // a crate that does not compile, or a test binary that dies, runs no test: that is a failure all the same
  return code !== 0 && count.failed === 0 ? { ...count, failed: 1 } : count
}
