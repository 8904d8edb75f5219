/** The protocol has nanoseconds, we calculate in milliseconds: exact enough (below a microsecond) for decades of uptime. */

export function toNanoseconds(milliseconds: number): bigint {
  return BigInt(Math.round(milliseconds * 1e6))
}

export function fromNanoseconds(nanoseconds: bigint): number {
  return Number(nanoseconds) / 1e6
}
