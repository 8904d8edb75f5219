/** What `make test` runs, in this order: cheap before dear. */
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

export const SUITES: readonly Suite[] = [
  { name: 'unit', files: ['{core,io,apps,tools,bench}/**/*.test.ts'], concurrency: 2, seconds: 400 },
  { name: 'contract', files: ['test/{kit,contract}/**/*.test.ts'], concurrency: 1, seconds: 400 },
  { name: 'engine', cargo: 'engine', concurrency: 1, seconds: 600 },
  { name: 'interop', files: ['test/interop/**/*.test.ts'], concurrency: 1, seconds: 600 },
  { name: 'scenarios', files: ['test/scenarios/**/*.test.ts'], concurrency: 1, seconds: 1500 },
]
