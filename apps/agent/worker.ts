import { describeFault } from '#core/fault/fault.ts'
import type { Log } from '#io/telemetry/log.ts'

export interface WorkerTimes {
  /** Milliseconds to wait after a nudge for more of them. */
  readonly debounce: number
  /** Milliseconds before the second attempt; doubles from there. */
  readonly firstRetry: number
  readonly longestRetry: number
}

const DEFAULT_TIMES: WorkerTimes = { debounce: 20, firstRetry: 200, longestRetry: 30_000 }

/** For status. */
export interface WorkerState {
  /** In a row. */
  readonly failures: number
  readonly lastError: unknown
  /** Milliseconds since the epoch. */
  readonly lastFailure: number
}

/** What the worker needs of the outside: replaced by a virtual clock in tests. */
export interface Timers {
  /** Calls back once after `ms`; the returned function calls it off. */
  after(ms: number, callback: () => void): () => void
  /** At least 0, below 1. */
  random(): number
}

export const REAL_TIMERS: Timers = {
  after(ms, callback) {
    const timer = setTimeout(callback, ms)
    return () => clearTimeout(timer)
  },
  random: Math.random,
}

/**
 * Runs one job whenever something changed: nudges that come together make one run, runs never overlap, a nudge during a
 * run makes another one after it, and a run that fails is done again later (twice the pause each time, with jitter).
 *
 * `settled` resolves when a run that began after the call has succeeded, rejects when one has failed: so a caller knows
 * that what it changed before is applied. The job itself goes on being tried.
 */
export class Worker {
  readonly #name: string
  readonly #job: () => Promise<void>
  readonly #log: Log
  readonly #timers: Timers
  readonly #times: WorkerTimes
  #callOff: (() => void) | undefined
  #running = false
  #again = false
  #closed = false
  #failures = 0
  #waiting: Waiter[] = []
  #idle: Promise<void> = Promise.resolve()
  lastError: unknown
  #lastFailure = 0

  constructor(
    name: string,
    job: () => Promise<void>,
    options: { log: Log; timers?: Timers; times?: Partial<WorkerTimes> },
  ) {
    this.#name = name
    this.#job = job
    this.#log = options.log
    this.#timers = options.timers ?? REAL_TIMERS
    this.#times = { ...DEFAULT_TIMES, ...options.times }
  }

  /** Consecutive failures so far; 0 when the last run succeeded. */
  get failures(): number {
    return this.#failures
  }

  get state(): WorkerState {
    return { failures: this.#failures, lastError: this.lastError, lastFailure: this.#lastFailure }
  }

  nudge(): void {
    if (this.#closed) return
    if (this.#running) this.#again = true
    else this.#schedule(this.#times.debounce)
  }

  settled(): Promise<void> {
    if (this.#closed) return Promise.reject(new Error(`${this.#name} has ended`))
    const promise = new Promise<void>((resolve, reject) => this.#waiting.push({ resolve, reject }))
    this.nudge()
    return promise
  }

  /** No run begins any more; resolves when the present one has ended. */
  async close(): Promise<void> {
    this.#closed = true
    this.#callOff?.()
    this.#callOff = undefined
    await this.#idle
    for (const { reject } of this.#waiting.splice(0)) reject(new Error(`${this.#name} has ended`))
  }

  #schedule(ms: number): void {
    this.#callOff?.()
    this.#callOff = this.#timers.after(ms, () => {
      this.#callOff = undefined
      this.#idle = this.#run()
    })
  }

  async #run(): Promise<void> {
    this.#running = true
    this.#again = false
    const waiting = this.#waiting.splice(0)
    try {
      await this.#job()
      if (this.#failures > 0) this.#log.info(`${this.#name} works again`, { failures: this.#failures })
      this.#failures = 0
      this.lastError = undefined
      for (const { resolve } of waiting) resolve()
    } catch (error) {
      this.#failures++
      this.lastError = error
      this.#lastFailure = Date.now()
      for (const { reject } of waiting) reject(error)
    }
    this.#running = false
    if (this.#closed) return
    if (this.#failures > 0) this.#retry()
    else if (this.#again) this.#schedule(this.#times.debounce)
  }

  #retry(): void {
    const { firstRetry, longestRetry } = this.#times
    const pause = Math.min(longestRetry, firstRetry * 2 ** (this.#failures - 1))
    const ms = Math.round(pause * (0.5 + this.#timers.random() / 2))
    const sentence = `${this.#name} failed: ${describeFault(this.lastError)}`
    const fields = { attempt: this.#failures, 'retry-in': `${ms}ms` }
    // what fails for a moment only (a device that is being made) is no warning
    if (this.#failures === 1) this.#log.info(sentence, fields)
    else this.#log.warn(sentence, fields)
    this.#schedule(ms)
  }
}

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}
