/**
 * A failure that somebody outside can do something about.
 *
 * `code` is stable and for programs (`ipsec.key.invalid`), `message` is one sentence for people, `remedy` says what to
 * do. Never put key material into any of them. Programmer mistakes throw a plain `TypeError` instead.
 */
export class Fault extends Error {
  override readonly name = 'Fault'
  readonly code: string
  /** The field, flag or object that is wrong, e.g. `encryption.type` or `node/kind-worker`. */
  readonly field: string | undefined
  readonly remedy: string | undefined

  constructor(code: string, message: string, options: { field?: string; remedy?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.field = options.field
    this.remedy = options.remedy
  }
}

/** One line for people: the sentence, the causes' sentences, then the remedy. */
export function describeFault(error: unknown): string {
  const parts: string[] = []
  let cause: unknown = error
  while (cause instanceof Error) {
    parts.push(cause.message)
    cause = cause.cause
  }
  if (typeof cause === 'string') parts.push(cause)
  const remedy = error instanceof Fault && error.remedy !== undefined ? `. ${error.remedy}` : ''
  return parts.join(': ') + remedy
}
