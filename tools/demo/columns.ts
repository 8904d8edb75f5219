/** Two lists of lines beside each other, cut to the width; the shorter is filled up. */
export function beside(left: readonly string[], right: readonly string[], width: number): string[] {
  const half = Math.floor((width - 3) / 2)
  const fit = (text: string) => (text.length > half ? `${text.slice(0, half - 1)}…` : text.padEnd(half))
  return Array.from(
    { length: Math.max(left.length, right.length) },
    (_, i) => `${fit(left[i] ?? '')} │ ${fit(right[i] ?? '').trimEnd()}`,
  )
}
