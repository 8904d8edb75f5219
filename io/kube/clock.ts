import { setTimeout as sleep } from 'node:timers/promises'

/** What waits and tells the time; tests pass one that they move by hand. */
export interface Clock {
  /** Milliseconds since the epoch, for what others read: it may be set, back as well. */
  now(): number
  /** Milliseconds since some moment, for how long something lasts: it never goes back. */
  steady(): number
  /** Rejects with the signal's reason when that is aborted first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** 0 ≤ x < 1, for jitter only. */
  random(): number
}

export const SYSTEM_CLOCK: Clock = {
  now: () => Date.now(),
  steady: () => performance.now(),
  sleep: async (ms, signal) => {
    await sleep(ms, undefined, signal === undefined ? {} : { signal })
  },
  random: () => Math.random(),
}

/** Exponential, between half and all of the step, so that a thousand agents do not come back in one instant. */
export class Backoff {
  readonly #clock: Clock
  readonly #least: number
  readonly #most: number
  #failures = 0

  constructor(clock: Clock, least = 250, most = 30_000) {
    this.#clock = clock
    this.#least = least
    this.#most = most
  }

  reset(): void {
    this.#failures = 0
  }

  next(): number {
    const step = Math.min(this.#most, this.#least * 2 ** Math.min(this.#failures++, 20))
    return step / 2 + (step / 2) * this.#clock.random()
  }
}
