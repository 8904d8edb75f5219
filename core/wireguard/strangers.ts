import { REKEY_TIMEOUT } from './constants.ts'
import type { PublicKey } from './key.ts'

/** More are not remembered: whoever knows our public key may come with any number of keys. */
const MOST = 64

/**
 * Who has just called and is no peer (yet). A peer that has another private key calls by it before we are told; it will not
 * call again before REKEY_TIMEOUT is over, so it is called back as soon as we are.
 */
export class Strangers {
  readonly #calls = new Map<PublicKey, number>()

  /** `now` in milliseconds, monotonic. */
  note(now: number, key: PublicKey): void {
    // to the end: the first one is the oldest
    this.#calls.delete(key)
    this.#calls.set(key, now)
    for (const [oldest, at] of this.#calls) {
      if (this.#calls.size <= MOST && now - at <= REKEY_TIMEOUT) break
      this.#calls.delete(oldest)
    }
  }

  /** Whether it has called since its peer's last try; forgotten then. */
  take(now: number, key: PublicKey): boolean {
    const at = this.#calls.get(key)
    this.#calls.delete(key)
    return at !== undefined && now - at <= REKEY_TIMEOUT
  }

  get size(): number {
    return this.#calls.size
  }
}
