/**
 * The earliest of many deadlines at O(1) per change: a deadline that moves later leaves the known minimum where it is, which
 * then costs one early wake-up and a scan.
 */
export class Deadlines<T> {
  readonly #deadlines = new Map<T, number>()
  #earliest: number | undefined

  set(owner: T, deadline: number | undefined): void {
    if (deadline === undefined) {
      this.#deadlines.delete(owner)
      return
    }
    this.#deadlines.set(owner, deadline)
    if (this.#earliest === undefined || deadline < this.#earliest) this.#earliest = deadline
  }

  /** Not later than the earliest deadline. */
  get earliest(): number | undefined {
    return this.#deadlines.size === 0 ? undefined : this.#earliest
  }

  /** Whose time has come. Afterwards `earliest` is exact. */
  expired(now: number): T[] {
    if (this.#earliest === undefined || this.#earliest > now) return []
    const owners: T[] = []
    this.#earliest = undefined
    for (const [owner, deadline] of this.#deadlines) {
      if (deadline <= now) owners.push(owner)
      else if (this.#earliest === undefined || deadline < this.#earliest) this.#earliest = deadline
    }
    for (const owner of owners) this.#deadlines.delete(owner)
    return owners
  }
}
