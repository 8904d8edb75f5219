/** What `make test` runs, in this order: cheap before dear. */
export interface Suite {
  readonly name: string
  /** Files below the root, in the syntax of `fs.glob`; or the folder of a Cargo workspace. */
  readonly files?: readonly string[]
  readonly cargo?: string
  /** Scenarios share the machine's namespaces and ports: one at a time. */
  readonly concurrency: number
}

export const SUITES: readonly Suite[] = [
  { name: 'unit', files: ['{core,io,apps,tools}/**/*.test.ts'], concurrency: 2 },
  { name: 'contract', files: ['test/{kit,contract}/**/*.test.ts'], concurrency: 1 },
  { name: 'engine', cargo: 'engine', concurrency: 1 },
  { name: 'interop', files: ['test/interop/**/*.test.ts'], concurrency: 1 },
  { name: 'scenarios', files: ['test/scenarios/**/*.test.ts'], concurrency: 1 },
]
