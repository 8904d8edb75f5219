import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { Fault } from '#core/fault/fault.ts'

export interface RunOptions {
  readonly input?: string | Uint8Array
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  readonly signal?: AbortSignal
  /** Called with each line of standard error and output as it comes. */
  readonly onLine?: (line: string) => void
}

/** Runs a program to its end and gives its standard output; anything but exit code 0 is a Fault with its last words. */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { input, cwd, env, signal, onLine } = options
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(cwd === undefined ? {} : { cwd }),
    ...(env === undefined ? {} : { env }),
    ...(signal === undefined ? {} : { signal }),
  })
  let output = ''
  let errors = ''
  child.stdout.on('data', (chunk: Buffer) => {
    const text = chunk.toString()
    output += text
    if (onLine !== undefined) for (const line of text.split('\n')) if (line.trim() !== '') onLine(line)
  })
  child.stderr.on('data', (chunk: Buffer) => {
    const text = chunk.toString()
    errors = (errors + text).slice(-16_384)
    if (onLine !== undefined) for (const line of text.split('\n')) if (line.trim() !== '') onLine(line)
  })
  child.stdin.on('error', () => undefined) // the child may end before it has read everything
  child.stdin.end(input)
  return await new Promise<string>((resolve, reject) => {
    child.on('error', (cause) => {
      reject(new Fault('process.start', `cannot run ${program}`, { cause, remedy: 'Run `make setup`' }))
    })
    child.on('close', (code, killed) => {
      if (code === 0) return resolve(output)
      const words = (errors.trim() || output.trim()).split('\n').slice(-8).join('\n')
      const how = code === null ? `was stopped by ${killed ?? 'a signal'}` : `ended with ${code}`
      reject(new Fault('process.failed', `${program} ${args.slice(0, 4).join(' ')} ${how}: ${words}`))
    })
  })
}

/** Starts a program that outlives this one: in a session of its own, its words in a log file. Gives its process id. */
export function startDetached(
  program: string,
  args: readonly string[],
  log: string,
  options: { readonly descriptors?: readonly number[]; readonly env?: NodeJS.ProcessEnv } = {},
): number {
  const out = openSync(log, 'a', 0o600)
  try {
    const child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', out, out, ...(options.descriptors ?? [])],
      ...(options.env === undefined ? {} : { env: options.env }),
    })
    child.on('error', () => undefined) // a missing program shows as a missing pid
    child.unref()
    if (child.pid === undefined) {
      throw new Fault('process.start', `cannot run ${program}`, { remedy: 'Run `make setup`' })
    }
    return child.pid
  } finally {
    closeSync(out)
  }
}
