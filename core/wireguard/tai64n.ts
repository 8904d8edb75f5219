/**
 * TAI64N labels (cr.yp.to/libtai/tai64.html): 8 bytes of seconds since 1970 TAI + 2^62, 4 of nanoseconds, big endian, so that
 * byte order is time order.
 */
export const TAI64N_BYTES = 12

const EPOCH = 0x400000000000000an
/** 2^24 ns: as Linux does, so that a timestamp tells less about the clock (and about load) than it could. */
const GRANULARITY = 1n << 24n

/** The label of a time in milliseconds since 1970, rounded down to about 17 ms. */
export function tai64nOf(unix: number): Uint8Array<ArrayBuffer> {
  const milliseconds = BigInt(Math.max(0, Math.floor(unix)))
  const nanoseconds = (milliseconds % 1000n) * 1_000_000n
  return encode(milliseconds / 1000n, (nanoseconds / GRANULARITY) * GRANULARITY)
}

/** The next label that is later than `label`, at the same granularity. */
export function tai64nAfter(label: Uint8Array): Uint8Array<ArrayBuffer> {
  const view = new DataView(label.buffer, label.byteOffset, TAI64N_BYTES)
  const nanoseconds = (BigInt(view.getUint32(8)) / GRANULARITY + 1n) * GRANULARITY
  const seconds = view.getBigUint64(0) - EPOCH
  return nanoseconds < 1_000_000_000n ? encode(seconds, nanoseconds) : encode(seconds + 1n, 0n)
}

/** Negative when `a` is earlier. */
export function compareTai64n(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < TAI64N_BYTES; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

function encode(seconds: bigint, nanoseconds: bigint): Uint8Array<ArrayBuffer> {
  const label = new Uint8Array(TAI64N_BYTES)
  const view = new DataView(label.buffer)
  view.setBigUint64(0, BigInt.asUintN(64, EPOCH + seconds))
  view.setUint32(8, Number(nanoseconds))
  return label
}
