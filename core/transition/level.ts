/**
 * How far a node has come on the way from clear to encrypted. Every node publishes its own; the rules for going up and
 * down are in next-level.ts.
 *
 * | level | receives | sends |
 * |---|---|---|
 * | 0 | clear | clear |
 * | 1 | clear and encrypted | clear |
 * | 2 | clear and encrypted | encrypted to every peer at 1 or above, else clear |
 * | 3 | encrypted | encrypted: closed |
 */
export type Level = 0 | 1 | 2 | 3

export const CLEAR = 0
export const RECEIVING = 1
export const SENDING = 2
export const CLOSED = 3

/** On the CiliumNode: `LEVEL.EPOCH`, two decimal numbers, such as `3.1`. */
export const LEVEL_ANNOTATION = 'pellicle.io/encryption-level'

/** What a node publishes about itself, always both together. */
export interface Announcement {
  readonly level: Level
  /**
   * Which change of mind this is: even while the cluster is asked to be clear, odd while it is asked to be encrypted.
   * It only grows. A step that takes something away waits for peers of the *same* epoch, so that no two nodes can act
   * on opposite wishes (next-level.ts).
   */
  readonly epoch: number
}

export function sameAnnouncement(a: Announcement | undefined, b: Announcement | undefined): boolean {
  return a?.level === b?.level && a?.epoch === b?.epoch
}

export function formatAnnouncement({ level, epoch }: Announcement): string {
  return `${level}.${epoch}`
}

/**
 * How far one announcement may take the others' epoch along. Nobody changes their mind a million times, so one that is
 * further away is a mistake or malice, and no number of steps leads to the end of what has a text.
 */
export const EPOCH_REACH = 1_000_000

/** Undefined when `text` is absent or not of that form. */
export function parseAnnouncement(text: string | undefined): Announcement | undefined {
  const match = /^([0-3])\.(0|[1-9][0-9]{0,14})$/.exec(text ?? '')
  return match === null ? undefined : { level: Number(match[1]) as Level, epoch: Number(match[2]) }
}
