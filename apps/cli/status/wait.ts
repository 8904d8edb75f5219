import { Fault } from '#core/fault/fault.ts'
import type { CliClock } from '../context.ts'
import { problemsOf, type StatusDocument } from './document.ts'

export interface WaitOptions {
  readonly clock: CliClock
  /** Milliseconds. */
  readonly duration: number
  readonly ignoreWarnings: boolean
  readonly signal: AbortSignal
  /** Called with every document, for a line of progress. */
  readonly onProgress?: (document: StatusDocument) => void
}

export interface WaitResult {
  readonly document: StatusDocument
  /** Undefined: no errors and (unless they are ignored) no warnings. */
  readonly fault: Fault | undefined
}

const PAUSE_MS = 500

/** Asks until there are no errors and no warnings, or until the time is up: then the last document and why. */
export async function waitForStatus(ask: () => Promise<StatusDocument>, options: WaitOptions): Promise<WaitResult> {
  const { clock, duration, signal } = options
  const end = clock.now() + duration
  for (;;) {
    const document = await ask()
    options.onProgress?.(document)
    const problems = problemsOf(document)
    const open = options.ignoreWarnings ? problems.errors : [...problems.errors, ...problems.warnings]
    if (open.length === 0) return { document, fault: undefined }
    if (clock.now() + PAUSE_MS > end) {
      const fault = new Fault(
        'status.timeout',
        `timeout while waiting for status to become successful: ${open.join('; ')}`,
        { field: '--wait-duration' },
      )
      return { document, fault }
    }
    await clock.sleep(PAUSE_MS, signal)
  }
}
