/** Columns as wide as their widest cell, the first to the left and the others to the right; a rule under the first row. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const line = (row: readonly string[]) =>
    widths
      .map((width, column) => (column === 0 ? (row[column] ?? '').padEnd(width) : (row[column] ?? '').padStart(width)))
      .join('  ')
  const [head = [], ...rest] = rows
  return [line(head), widths.map((width) => '─'.repeat(width)).join('──'), ...rest.map(line)].join('\n')
}
