/** Whether more handshakes come in than we want to calculate: above `limit` in a second, and for a second after. */
export class Load {
  readonly #limit: number
  #windowBegan = 0
  #count = 0
  #until = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Counts one message, `now` in milliseconds; true while under load. */
  count(now: number): boolean {
    if (now - this.#windowBegan >= 1000) {
      this.#windowBegan = now
      this.#count = 0
    }
    this.#count++
    if (this.#count > this.#limit) this.#until = now + 1000
    return now < this.#until
  }
}
