import { type Ip, ipToValue } from '#core/ip/address.ts'

/** What to do with a handshake message: calculate, ask for a cookie first, or nothing. */
export type Judgement = 'serve' | 'ask' | 'drop'

/** A queue seen from its length: `credit` is what may still come at once, and grows by `rate` a second up to `most`. */
interface Bucket {
  credit: number
  filled: number
}

/** Sources that are remembered at most; beyond them, who is unknown must prove itself. */
const MAX_SOURCES = 4096
/** With a cookie a source gets at least so many a second. */
const LEAST_PROVEN = 20
const SWEEP_MS = 1000

/**
 * Bounds what handshakes cost, so that whoever sends many gets in nobody's way:
 *
 * - `limit` a second are calculated without a question, and 4 × `limit` at once: many honest peers that come back together
 *   are served. Of both no source gets more than half.
 * - Beyond that a source must show by mac2 that it receives at its address. Such messages have as much again, of which a
 *   source gets an eighth; the rest is dropped.
 *
 * So at most 2 × `limit` a second are calculated, for at most 2 × 4,096 remembered sources. A source is an IPv4 address or
 * an IPv6 /64 (who has one address of it has all).
 */
export class Load {
  readonly #limit: number
  readonly #open: Shares
  readonly #proven: Shares

  constructor(limit: number) {
    this.#limit = limit
    this.#open = new Shares(limit, limit / 2)
    this.#proven = new Shares(Math.max(limit, LEAST_PROVEN), Math.max(limit / 8, LEAST_PROVEN))
  }

  /** Counts one message, `now` in milliseconds. `proven` is asked only when it matters: is the message's mac2 right? */
  judge(now: number, source: Ip, proven: () => boolean): Judgement {
    const key = sourceOf(source)
    if (this.#limit > 0 && this.#open.take(now, key)) return 'serve'
    if (!proven()) return 'ask'
    return this.#proven.take(now, key) ? 'serve' : 'drop'
  }

  /** How many sources are remembered. */
  get size(): number {
    return this.#open.size + this.#proven.size
  }
}

/** A bucket for all, and one for each source; a message must fit into both. */
class Shares {
  readonly #rate: number
  readonly #share: number
  readonly #all: Bucket
  readonly #sources = new Map<string, Bucket>()
  #swept = 0

  constructor(rate: number, share: number) {
    this.#rate = rate
    this.#share = share
    this.#all = { credit: 4 * rate, filled: 0 }
  }

  get size(): number {
    return this.#sources.size
  }

  take(now: number, key: string): boolean {
    if (now - this.#swept >= SWEEP_MS) this.#sweep(now)
    fill(this.#all, now, this.#rate)
    let own = this.#sources.get(key)
    if (own === undefined) {
      if (this.#sources.size >= MAX_SOURCES) return false
      own = { credit: 4 * this.#share, filled: now }
      this.#sources.set(key, own)
    }
    fill(own, now, this.#share)
    if (own.credit < 1 || this.#all.credit < 1) return false
    own.credit--
    this.#all.credit--
    return true
  }

  /** Who has all of its share again need not be remembered. */
  #sweep(now: number): void {
    this.#swept = now
    for (const [key, bucket] of this.#sources) {
      fill(bucket, now, this.#share)
      if (bucket.credit >= 4 * this.#share) this.#sources.delete(key)
    }
  }
}

function fill(bucket: Bucket, now: number, rate: number): void {
  bucket.credit = Math.min(4 * rate, bucket.credit + ((now - bucket.filled) * rate) / 1000)
  bucket.filled = now
}

function sourceOf(ip: Ip): string {
  return ip.includes(':') ? `${ipToValue(ip) >> 64n}` : ip
}
