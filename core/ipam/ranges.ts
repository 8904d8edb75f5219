import { FAMILY_BITS, ipFromValue, ipToValue } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, cidrOf, networkOf, sizeOf } from '#core/ip/cidr.ts'

/** Addresses as numbers, the end not included. */
export interface Range {
  readonly start: bigint
  readonly end: bigint
}

export function rangeOf(cidr: Cidr): Range {
  const start = ipToValue(networkOf(cidr))
  return { start, end: start + sizeOf(cidr) }
}

/** Addresses of one family that are taken: sorted, without overlaps. */
export class TakenRanges {
  readonly #ranges: Range[] = []

  constructor(cidrs: readonly Cidr[]) {
    const sorted = cidrs.map(rangeOf).sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0))
    for (const { start, end } of sorted) {
      const last = this.#ranges.at(-1)
      if (last === undefined || start > last.end) this.#ranges.push({ start, end })
      else if (end > last.end) this.#ranges[this.#ranges.length - 1] = { start: last.start, end }
    }
  }

  /** It must be free. */
  add(cidr: Cidr): void {
    const range = rangeOf(cidr)
    this.#ranges.splice(this.#firstEndingAfter(range.start), 0, range)
  }

  overlaps(cidr: Cidr): boolean {
    const { start, end } = rangeOf(cidr)
    const first = this.#ranges[this.#firstEndingAfter(start)]
    return first !== undefined && first.start < end
  }

  /** The end of the last one that has an address inside `within`; undefined when there is none. */
  lastEnd(within: Range): bigint | undefined {
    // only the next one can begin inside and end outside of it
    const next = this.#firstEndingAfter(within.end - 1n)
    const last = [this.#ranges[next], this.#ranges[next - 1]].find(
      (each) => each !== undefined && each.start < within.end,
    )
    return last === undefined || last.end <= within.start ? undefined : last.end
  }

  /** The first prefix of `length` inside `pool`, at or after `from`, of which nothing is taken; after the end it goes on at the begin. */
  free(pool: Cidr, length: number, from: bigint): Cidr | undefined {
    const { start, end } = rangeOf(pool)
    const size = 1n << BigInt(FAMILY_BITS[cidrFamily(pool)] - length)
    const first = from <= start || from >= end ? start : alignUp(from, size)
    return this.#freeIn(pool, length, first, end) ?? this.#freeIn(pool, length, start, first)
  }

  /** How many prefixes of `length` inside `pool` are free. */
  countFree(pool: Cidr, length: number): bigint {
    const { start, end } = rangeOf(pool)
    const size = 1n << BigInt(FAMILY_BITS[cidrFamily(pool)] - length)
    let count = 0n
    let at = start
    for (let i = this.#firstEndingAfter(start); at < end; i++) {
      const taken = this.#ranges[i]
      const until = taken === undefined || taken.start >= end ? end : taken.start
      if (until > at) count += (until - at) / size
      if (taken === undefined || taken.start >= end) break
      at = alignUp(taken.end, size)
    }
    return count
  }

  #freeIn(pool: Cidr, length: number, from: bigint, to: bigint): Cidr | undefined {
    const family = cidrFamily(pool)
    const size = 1n << BigInt(FAMILY_BITS[family] - length)
    let at = from
    for (let i = this.#firstEndingAfter(from); at + size <= to; i++) {
      const taken = this.#ranges[i]
      if (taken === undefined || taken.start >= at + size) return cidrOf(ipFromValue(family, at), length)
      at = alignUp(taken.end, size)
    }
    return undefined
  }

  #firstEndingAfter(value: bigint): number {
    let [low, high] = [0, this.#ranges.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#ranges[middle] as Range).end > value) high = middle
      else low = middle + 1
    }
    return low
  }
}

function alignUp(value: bigint, size: bigint): bigint {
  return ((value + size - 1n) / size) * size
}
