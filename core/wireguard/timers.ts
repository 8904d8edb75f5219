/** The timers of one peer (paper, section 6; Linux timers.c): a table of deadlines, nothing that runs. */
const TIMERS = ['retry', 'newHandshake', 'passiveKeepalive', 'persistentKeepalive', 'zeroKeys'] as const

export type Timer = (typeof TIMERS)[number]

export class Timers {
  readonly #deadlines = new Map<Timer, number>()

  set(timer: Timer, deadline: number): void {
    this.#deadlines.set(timer, deadline)
  }

  setIfUnset(timer: Timer, deadline: number): void {
    if (!this.#deadlines.has(timer)) this.#deadlines.set(timer, deadline)
  }

  clear(timer: Timer): void {
    this.#deadlines.delete(timer)
  }

  clearAll(): void {
    this.#deadlines.clear()
  }

  get(timer: Timer): number | undefined {
    return this.#deadlines.get(timer)
  }

  /** The earliest deadline. */
  next(): number | undefined {
    let earliest: number | undefined
    for (const deadline of this.#deadlines.values()) {
      if (earliest === undefined || deadline < earliest) earliest = deadline
    }
    return earliest
  }

  /** Clears it if its time has come. */
  takeExpired(timer: Timer, now: number): boolean {
    const deadline = this.#deadlines.get(timer)
    if (deadline === undefined || deadline > now) return false
    this.#deadlines.delete(timer)
    return true
  }
}
