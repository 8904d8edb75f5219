import type { StricliProcess } from '@stricli/core'

/** What a command may touch of the world around it. Tests give their own. */
export interface CliContext {
  /** Results go to stdout, progress and errors to stderr. */
  readonly process: StricliProcess
  /** The name it was called by; `cilium` changes texts only. */
  readonly program: ProgramName
  readonly env: Readonly<Record<string, string | undefined>>
  readonly clock: CliClock
  /** The folder of the checkout or release that this CLI runs from: `deploy/`, `bin/` and `examples/` are in it. */
  readonly home: string
  readonly terminal: { readonly stdout: boolean; readonly stderr: boolean }
  /** Aborted by SIGINT or SIGTERM: commands stop and undo what they must. */
  readonly signal: AbortSignal
}

export type ProgramName = 'pellicle' | 'cilium'

export interface CliClock {
  /** Milliseconds since 1970. */
  now(): number
  /** Resolves after `milliseconds`; rejects with the signal's reason as soon as it aborts. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>
}
