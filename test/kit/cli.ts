import { runCli } from '#apps/cli/app.ts'
import type { CliContext } from '#apps/cli/context.ts'

export interface CliRun {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface CliOptions {
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly program?: CliContext['program']
  readonly signal?: AbortSignal
  /** Standard: the real one. */
  readonly clock?: CliContext['clock']
}

/** Runs one command line of the cluster CLI in this process, without a terminal. */
export async function runPellicle(args: readonly string[], options: CliOptions = {}): Promise<CliRun> {
  const written = { stdout: '', stderr: '' }
  const process = {
    stdout: { write: (text: string) => void (written.stdout += text) },
    stderr: { write: (text: string) => void (written.stderr += text) },
    env: {},
    exitCode: undefined as number | string | null | undefined,
  }
  const context: CliContext = {
    process: process as CliContext['process'],
    program: options.program ?? 'pellicle',
    env: options.env ?? {},
    clock: options.clock ?? {
      now: () => Date.now(),
      sleep: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
    },
    home: new URL('../..', import.meta.url).pathname.replace(/\/$/, ''),
    terminal: { stdout: false, stderr: false },
    signal: options.signal ?? new AbortController().signal,
  }
  await runCli(args, context)
  return { code: Number(process.exitCode ?? 0), ...written }
}

/** Time that passes only by waiting. */
export class WaitingClock {
  #now = Date.UTC(2026, 0, 1)
  readonly onSleep: () => void

  constructor(onSleep: () => void = () => undefined) {
    this.onSleep = onSleep
  }

  now(): number {
    return this.#now
  }

  async sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    this.#now += milliseconds
    this.onSleep()
  }
}
