import type { Fault } from '#core/fault/fault.ts'

/** Of values that a user gave. */
export interface Judgement {
  /** Nothing may be changed while there is one. */
  readonly faults: readonly Fault[]
  /** To be told, one line each. */
  readonly notes: readonly { readonly path: string; readonly reason: string }[]
}
