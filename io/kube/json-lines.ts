import { kubeFault } from './errors.ts'

/** An object may have 1.5 MiB in etcd; JSON makes it longer. */
const MOST_LINE_BYTES = 16 * 1024 * 1024

/**
 * Newline-separated JSON from pieces that may be cut anywhere, also inside a character. A last line without newline
 * counts only if it is whole.
 * @throws Fault `kube.protocol` on a line that is no JSON: something was lost, and the reader must start anew
 */
export async function* jsonLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<unknown, void, undefined> {
  let parts: Uint8Array[] = []
  let held = 0
  for await (const chunk of chunks) {
    let from = 0
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      parts.push(chunk.subarray(from, at))
      from = at + 1
      const line = parts
      parts = []
      held = 0
      const text = join(line)
      if (text.trim() !== '') yield parseLine(text)
    }
    if (from < chunk.length) {
      const rest = chunk.subarray(from)
      parts.push(rest)
      held += rest.length
      if (held > MOST_LINE_BYTES)
        throw kubeFault('kube.protocol', `a line of the watch is longer than ${MOST_LINE_BYTES} bytes`)
    }
  }
  // the server ended in the middle of a line: nothing was announced yet, so nothing is lost
  const last = join(parts).trim()
  if (last !== '' && isJson(last)) yield JSON.parse(last)
}

function join(parts: readonly Uint8Array[]): string {
  return Buffer.concat(parts).toString('utf8')
}

function parseLine(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw kubeFault('kube.protocol', `a line of the watch (${text.length} characters) is no JSON`)
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
