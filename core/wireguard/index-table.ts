import type { Entropy } from './clock.ts'

/** Session indices of one device: random, so that they tell nothing, and unique (paper, section 5.4.2). */
export class IndexTable<T> {
  readonly #random: Entropy
  readonly #owners = new Map<number, T>()

  constructor(random: Entropy) {
    this.#random = random
  }

  allocate(owner: T): number {
    for (;;) {
      const bytes = this.#random(4)
      const index = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true)
      // 0 means "no index" in other implementations
      if (index === 0 || this.#owners.has(index)) continue
      this.#owners.set(index, owner)
      return index
    }
  }

  /** For a session that exists already, found in a running engine. */
  adopt(index: number, owner: T): void {
    this.#owners.set(index, owner)
  }

  get(index: number): T | undefined {
    return this.#owners.get(index)
  }

  release(index: number): void {
    this.#owners.delete(index)
  }

  get size(): number {
    return this.#owners.size
  }
}
