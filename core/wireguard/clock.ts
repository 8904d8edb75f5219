/**
 * One reading of both clocks, in milliseconds; whoever has a clock passes it in. `monotonic` never goes back and is the
 * clock of the engine's times; `unix` is only for timestamps that leave the process.
 */
export interface Now {
  readonly monotonic: number
  readonly unix: number
}

/** `length` unpredictable bytes. */
export type Entropy = (length: number) => Uint8Array
