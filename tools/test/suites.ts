export interface Suite {
  readonly name: string
  /** Files below the root, in the syntax of `fs.glob`; or the folder of a Cargo workspace. */
  readonly files?: readonly string[]
  readonly cargo?: string
  /** Scenarios share the machine's namespaces and ports: one at a time. */
  readonly concurrency: number
  /** Seconds that one test may take before it counts as failed: a test that hangs must not hang the run. */
  readonly seconds: number
}

const UNIT: Suite = {
  name: 'unit',
  files: ['{core,io,apps,tools,bench}/**/*.test.ts'],
  concurrency: 2,
  seconds: 400,
}
const CONTRACT: Suite = { name: 'contract', files: ['test/{kit,contract}/**/*.test.ts'], concurrency: 1, seconds: 400 }
const ENGINE: Suite = { name: 'engine', cargo: 'engine', concurrency: 1, seconds: 600 }
const INTEROP: Suite = { name: 'interop', files: ['test/interop/**/*.test.ts'], concurrency: 1, seconds: 600 }
const SCENARIOS: Suite = { name: 'scenarios', files: ['test/scenarios/**/*.test.ts'], concurrency: 1, seconds: 1500 }

/** Suites that run one after the other. */
type Lane = readonly Suite[]

/** What `make test` runs, cheap before dear: stages in order, lanes of a stage side by side. What counts lost packets runs alone. */
export const STAGES: readonly (readonly Lane[])[] = [[[UNIT, CONTRACT], [ENGINE]], [[INTEROP, SCENARIOS]]]
