import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { Fault } from '#core/fault/fault.ts'

export interface AttachedOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string | undefined>>
}

/** Runs a program on our own terminal and gives its exit code (128 + signal, as shells do). Ctrl-C is the program's, not ours. */
export async function runAttached(
  program: string,
  args: readonly string[],
  options: AttachedOptions = {},
): Promise<number> {
  const ignore = (): void => undefined
  process.on('SIGINT', ignore)
  try {
    return await new Promise<number>((resolve, reject) => {
      const child = spawn(program, args, {
        stdio: 'inherit',
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
        ...(options.env === undefined ? {} : { env: { ...options.env } }),
      })
      const stop = (): void => void child.kill('SIGTERM')
      process.once('SIGTERM', stop)
      child.on('error', (cause) => reject(new Fault('process.start', `cannot run ${program}`, { cause })))
      child.on('close', (code, signal) => {
        process.off('SIGTERM', stop)
        resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]))
      })
    })
  } finally {
    process.off('SIGINT', ignore)
  }
}
