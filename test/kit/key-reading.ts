import type { KeyReading } from '#apps/agent/key-source.ts'

/** A cluster that has no key yet, and no operator that remembers any. */
export const NO_KEYS: KeyReading = {
  current: undefined,
  kept: [],
  retired: [],
  operator: false,
  isKeeping: false,
  forced: undefined,
  problem: undefined,
  complete: true,
}
