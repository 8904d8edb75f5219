/**
 * Text in elastic columns, as Go's text/tabwriter lays it out (Cilium's tools print that way): every cell but a line's
 * last belongs to a column; a column is as wide as its widest cell plus `padding`, counted over the consecutive lines
 * that have it.
 */
export function formatColumns(lines: readonly (readonly string[])[], padding = 3): string {
  const widths = lines.map((line) => line.map(() => 0))
  const columns = Math.max(0, ...lines.map((line) => line.length - 1))
  for (let column = 0; column < columns; column++) {
    for (let first = 0; first < lines.length; ) {
      let end = first
      let width = 0
      while (end < lines.length && (lines[end] as readonly string[]).length - 1 > column) {
        width = Math.max(width, lengthOf(lines[end]?.[column] as string))
        end++
      }
      for (let at = first; at < end; at++) (widths[at] as number[])[column] = width + padding
      first = Math.max(end, first + 1)
    }
  }
  return lines
    .map((line, at) => {
      const cells = line.map((cell, i) => (i < line.length - 1 ? cell + pad(cell, widths[at]?.[i] ?? 0) : cell))
      return `${cells.join('').trimEnd()}\n`
    })
    .join('')
}

function pad(cell: string, width: number): string {
  return ' '.repeat(Math.max(0, width - lengthOf(cell)))
}

/** In characters, not UTF-16 units. */
function lengthOf(text: string): number {
  return Array.from(text).length
}
