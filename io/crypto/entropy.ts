import { randomFillSync } from 'node:crypto'

const POOL_BYTES = 4096

/**
 * Random bytes, drawn from the generator 4 KiB at a time: a call of its own for the few bytes of an index or a key costs
 * 2 µs, most of it the call. What was handed out is overwritten in the pool.
 */
export function pooledEntropy(): (length: number) => Uint8Array<ArrayBuffer> {
  const pool = new Uint8Array(POOL_BYTES)
  let at = POOL_BYTES
  return (length) => {
    if (length > POOL_BYTES) return randomFillSync(new Uint8Array(length))
    if (at + length > POOL_BYTES) {
      randomFillSync(pool)
      at = 0
    }
    const bytes = pool.slice(at, at + length)
    pool.fill(0, at, at + length)
    at += length
    return bytes
  }
}
