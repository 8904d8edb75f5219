/**
 * How far a node has come on the way from clear to encrypted. Every node publishes its own (annotation
 * {@link LEVEL_ANNOTATION}); the rules for going up and down are in `next-level.ts`.
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

/** On the CiliumNode, the level as one decimal digit. */
export const LEVEL_ANNOTATION = 'pellicle.io/encryption-level'

/** Undefined when `text` is none of `0` to `3`. */
export function parseLevel(text: string | undefined): Level | undefined {
  return text !== undefined && /^[0-3]$/.test(text) ? (Number(text) as Level) : undefined
}
