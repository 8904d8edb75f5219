import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import type { Count } from './count.ts'
import type { Suite } from './suites.ts'

/** Runs test files, each in a process of its own, and counts by file. */
export async function runNodeFiles(
  files: readonly string[],
  { concurrency, seconds }: Pick<Suite, 'concurrency' | 'seconds'>,
  write: (text: string) => void,
): Promise<ReadonlyMap<string, Count>> {
  const counted = new Map<string, Count>()
  const failed = new Set<string>()
  const stream = run({ files: [...files], concurrency, isolation: 'process', timeout: seconds * 1000 })
  stream.on('test:fail', ({ file }) => {
    if (file !== undefined) failed.add(file)
  })
  stream.on('test:summary', ({ file, counts }) => {
    if (file === undefined) return
    const skipped = counts.skipped + counts.todo
    counted.set(file, { passed: counts.passed, failed: counts.tests - counts.passed - skipped, skipped })
  })
  for await (const text of stream.compose(new spec())) write(String(text))
  for (const file of failed) {
    // it died before its first test, or after its last
    if ((counted.get(file)?.failed ?? 0) === 0) counted.set(file, { passed: 0, failed: 1, skipped: 0 })
  }
  return counted
}
