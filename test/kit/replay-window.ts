/** RFC 6479's idea, plainly: the greatest counter seen and which of the `size` below it were. */
export class ReplayWindow {
  readonly #size: bigint
  #next = 0n
  #seen = new Set<bigint>()

  constructor(size: number) {
    this.#size = BigInt(size)
  }

  /** False for what came before or is too old to tell. */
  accept(counter: bigint): boolean {
    if (counter + this.#size < this.#next || this.#seen.has(counter)) return false
    this.#seen.add(counter)
    if (counter >= this.#next) {
      this.#next = counter + 1n
      for (const old of this.#seen) if (old + this.#size < this.#next) this.#seen.delete(old)
    }
    return true
  }

  /** Highest counter + 1. */
  get next(): bigint {
    return this.#next
  }
}
