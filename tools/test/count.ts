export interface Count {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

export const NOTHING: Count = { passed: 0, failed: 0, skipped: 0 }

export function add(a: Count, b: Count): Count {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped }
}

export function describe(count: Count): string {
  return `${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`
}

/** Sums cargo's lines `test result: ok. 12 passed; 0 failed; 1 ignored; …`, one per test binary. */
export function countCargo(output: string): Count {
  return [...output.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/gm)]
    .map(([, passed, failed, skipped]) => ({
      passed: Number(passed),
      failed: Number(failed),
      skipped: Number(skipped),
    }))
    .reduce(add, NOTHING)
}
