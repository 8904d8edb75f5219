import type { Entropy } from '#core/wireguard/clock.ts'

/** A stream of bytes that is the same for the same seed (xorshift32): a failure reproduces. Not for keys of anybody. */
export function seededRandom(seed: number): Entropy {
  let state = (seed * 2_654_435_761) >>> 0 || 1
  return (length) =>
    Uint8Array.from({ length }, () => {
      state ^= state << 13
      state >>>= 0
      state ^= state >>> 17
      state ^= state << 5
      state >>>= 0
      return (state >>> 11) & 255
    })
}
