import { writeSync } from 'node:fs'
import { pino } from 'pino'
import { formatLogfmt } from './logfmt.ts'

/**
 * What our processes say about themselves. One line each, logfmt (`time=… level=warning msg="…"`) or JSON.
 * Fields are for machines: names in kebab-case, no key material (what looks like one is replaced).
 */
export interface Log {
  debug(message: string, fields?: Fields): void
  info(message: string, fields?: Fields): void
  warn(message: string, fields?: Fields): void
  error(message: string, fields?: Fields): void
  /** The same log with fields that every line gets. */
  with(fields: Fields): Log
}

type Fields = Readonly<Record<string, unknown>>

export interface LogOptions {
  readonly format?: 'logfmt' | 'json'
  readonly level?: LogLevel
  /** Gets whole lines; default is standard output (a container's log). */
  readonly write?: (line: string) => void
  /** Milliseconds since the epoch. */
  readonly now?: () => number
}

type LogLevel = 'debug' | 'info' | 'warning' | 'error'

/** Whatever is called so is a secret, at whatever depth up to two. */
const SECRET = [
  'privateKey',
  'private-key',
  'presharedKey',
  'preshared-key',
  'token',
  'secret',
  'keys',
  'authorization',
]
const REDACTED = '[redacted]'

/** Cilium's spellings of the levels, by pino's numbers. */
const LEVEL_NAMES: Readonly<Record<number, LogLevel>> = { 20: 'debug', 30: 'info', 40: 'warning', 50: 'error' }
const PINO_NAMES = { debug: 'debug', info: 'info', warning: 'warn', error: 'error' } as const

/**
 * Writes to a stream of this process. A line that cannot be written (a full disk, a reader that has gone) is lost: else it
 * would end the program.
 */
export function lineWriter(stream: NodeJS.WritableStream & { readonly fd: number }): (line: string) => void {
  // without a listener an error ends the process; the stream itself takes nothing after one, its descriptor does
  let isBroken = false
  stream.on('error', () => {
    isBroken = true
  })
  return (line) => {
    if (!isBroken) {
      stream.write(line)
      return
    }
    try {
      writeSync(stream.fd, line)
    } catch {
      // no room still
    }
  }
}

export function createLog(options: LogOptions = {}): Log {
  const write = options.write ?? lineWriter(process.stdout)
  const now = options.now ?? Date.now
  const logfmt = (options.format ?? 'logfmt') === 'logfmt'
  const logger = pino(
    {
      level: PINO_NAMES[options.level ?? 'info'],
      base: null,
      messageKey: 'msg',
      timestamp: () => `,"time":${JSON.stringify(new Date(now()).toISOString())}`,
      formatters: { level: (_label, number) => ({ level: LEVEL_NAMES[number] ?? 'error' }) },
      redact: {
        paths: SECRET.flatMap((name) => [`["${name}"]`, `*["${name}"]`, `*.*["${name}"]`]),
        censor: REDACTED,
      },
    },
    { write: (line: string) => write(logfmt ? formatLogfmt(JSON.parse(line) as Fields) : line) },
  )
  return wrap(logger)
}

/** For tests and for places that must stay quiet. */
export const SILENT: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  with: () => SILENT,
}

function wrap(logger: pino.Logger): Log {
  return {
    debug: (message, fields) => logger.debug(clean(fields), message),
    info: (message, fields) => logger.info(clean(fields), message),
    warn: (message, fields) => logger.warn(clean(fields), message),
    error: (message, fields) => logger.error(clean(fields), message),
    with: (fields) => wrap(logger.child(clean(fields))),
  }
}

/** The line's own words: a field of that name would take the place of what people grep for. logrus names it so too. */
const OWN = new Set(['time', 'level', 'msg'])

/** Bytes are never spelt out: they might be a key. Absent values are left out. */
function clean(fields: Fields = {}): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [
        OWN.has(name) ? `fields.${name}` : name,
        ArrayBuffer.isView(value) ? `[${value.byteLength} bytes]` : value,
      ]),
  )
}
