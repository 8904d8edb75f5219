/** What several rounds found: the middle, and how far apart they lay. */
export interface Figure {
  readonly median: number
  readonly smallest: number
  readonly largest: number
  readonly rounds: number
}

export function figure(values: readonly number[]): Figure | undefined {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b)
  const [smallest, largest] = [sorted[0], sorted.at(-1)]
  if (smallest === undefined || largest === undefined) return undefined
  return { median: percentile(sorted, 0.5), smallest, largest, rounds: sorted.length }
}

/** Of ascending values, `share` from 0 to 1; between two neighbours for an even count. */
export function percentile(sorted: readonly number[], share: number): number {
  const at = (sorted.length - 1) * share
  const [low, high] = [sorted[Math.floor(at)] ?? Number.NaN, sorted[Math.ceil(at)] ?? Number.NaN]
  return low + (high - low) * (at - Math.floor(at))
}

/** Three digits that count; `±` behind it: half of the way from smallest to largest, in per cent of the median. */
export function show(found: Figure | undefined): string {
  if (found === undefined) return '-'
  const { median, smallest, largest, rounds } = found
  if (rounds === 1 || median === 0) return digits(median)
  return `${digits(median)} ±${((50 * (largest - smallest)) / median).toFixed(0)}`
}

export function digits(value: number): string {
  if (value === 0) return '0'
  const size = Math.abs(value)
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2)
}
