import type { Count } from './count.ts'

/** More than so many that fail are no accident of the machine. */
const MOST = 3

export interface Tried<Key> {
  readonly counts: ReadonlyMap<Key, Count>
  /** What failed at first and passed when it ran alone. */
  readonly second: readonly Key[]
}

/**
 * A shared machine may stand still for seconds, in which full queues drop packets and answers come too late; that strikes
 * a test or two. What failed runs once more, with nothing beside it. It is never silent: whoever runs this names what needed it.
 */
export async function withSecondTry<Key>(
  keys: readonly Key[],
  run: (keys: readonly Key[], again: boolean) => Promise<ReadonlyMap<Key, Count>>,
): Promise<Tried<Key>> {
  const counts = new Map(await run(keys, false))
  const failed = failedOf(counts)
  if (failed.length === 0 || failed.length > MOST) return { counts, second: [] }
  for (const [key, count] of await run(failed, true)) counts.set(key, count)
  const still = failedOf(counts)
  return { counts, second: failed.filter((key) => !still.includes(key)) }
}

function failedOf<Key>(counts: ReadonlyMap<Key, Count>): Key[] {
  return [...counts].filter(([, { failed }]) => failed > 0).map(([key]) => key)
}
