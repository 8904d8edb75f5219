import type { Now } from '#core/wireguard/clock.ts'

/** Time that passes only when told, with a queue of what is to happen. Milliseconds. */
export class VirtualClock {
  #monotonic = 1_000_000
  #unixOffset = 1_790_000_000_000 - 1_000_000
  #queue: { at: number; order: number; run: () => void }[] = []
  #order = 0

  get now(): Now {
    return { monotonic: this.#monotonic, unix: this.#monotonic + this.#unixOffset }
  }

  /** Steps the wall clock, as an administrator or NTP does. */
  stepUnix(milliseconds: number): void {
    this.#unixOffset += milliseconds
  }

  at(monotonic: number, run: () => void): void {
    this.#queue.push({ at: Math.max(monotonic, this.#monotonic), order: this.#order++, run })
  }

  after(milliseconds: number, run: () => void): void {
    this.at(this.#monotonic + milliseconds, run)
  }

  /** Lets `milliseconds` pass: all that is due happens, in order. */
  advance(milliseconds: number): void {
    const end = this.#monotonic + milliseconds
    for (;;) {
      this.#queue.sort((a, b) => a.at - b.at || a.order - b.order)
      const first = this.#queue[0]
      if (first === undefined || first.at > end) break
      this.#queue.shift()
      this.#monotonic = Math.max(this.#monotonic, first.at)
      first.run()
    }
    this.#monotonic = end
  }
}
