import { describeFault, Fault } from '#core/fault/fault.ts'

/**
 * A failure in CNI's own terms (spec 1.1, "Error"): 1 incompatible version, 3 unknown container, 4 wrong environment,
 * 5 I/O, 6 not decodable, 7 wrong configuration, 11 try again later, 50 not available; ours begin at 100.
 */
export class CniError extends Error {
  override readonly name = 'CniError'
  readonly code: number
  readonly details: string | undefined

  constructor(code: number, message: string, details?: string) {
    super(message)
    this.code = code
    this.details = details
  }
}

export const TRY_AGAIN = 11
export const NOT_AVAILABLE = 50
/** The pod CIDR of this node has no free address. */
const NO_ADDRESS = 100
/** What CHECK found differs from what ADD made. */
export const NOT_AS_MADE = 101

const FAULT_CODES: Readonly<Record<string, number>> = {
  'ipam.used-up': NO_ADDRESS,
  'ipam.resting': TRY_AGAIN,
  'agent.not-ready': TRY_AGAIN,
}

export interface CniAnswer {
  readonly exitCode: number
  /** What the executable prints on standard output, as JSON; null where CNI expects nothing. */
  readonly output: Readonly<Record<string, unknown>> | null
}

export function errorAnswer(error: unknown, cniVersion: string): CniAnswer {
  const [code, details] =
    error instanceof CniError
      ? [error.code, error.details]
      : error instanceof Fault
        ? [FAULT_CODES[error.code] ?? 5, error.remedy]
        : [5, undefined]
  const msg =
    error instanceof Fault ? describeFault(new Error(error.message, { cause: error.cause })) : messageOf(error)
  return {
    exitCode: 1,
    output: { cniVersion, code, msg, ...(details === undefined ? {} : { details }) },
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? describeFault(error) : String(error)
}
