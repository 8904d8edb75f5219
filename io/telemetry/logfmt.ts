/**
 * One line of logfmt from the fields of a log entry: `time` first, then `level` and `msg`, then the rest in order.
 * Values are quoted when they have to be, as Cilium's (logrus) are: `level=warning msg="…" node=kind-worker`.
 */
export function formatLogfmt(entry: Readonly<Record<string, unknown>>): string {
  const { time, level, msg, ...rest } = entry
  return `${Object.entries({ time, level, msg, ...rest })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name.replace(/[\s="]/g, '_')}=${quote(value)}`)
    .join(' ')}\n`
}

function quote(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '')
  return /^[\w./:@^+-]+$/.test(text) ? text : JSON.stringify(text)
}
