/** The cluster CLI, `pellicle`; on a host also called `cilium`. Wiring only: commands are loaded when they are called. */
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { StricliProcess } from '@stricli/core'
import { runCli } from './app.ts'
import type { CliContext } from './context.ts'

const interrupted = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.once(name, () => interrupted.abort(new Error(`stopped by ${name}`)))
}

// whoever reads us may have seen enough (`| head`)
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit()
  throw error
})

const context: CliContext = {
  process: process as StricliProcess,
  program: process.env['PELLICLE_PROGRAM'] === 'cilium' ? 'cilium' : 'pellicle',
  env: process.env,
  clock: {
    now: () => Date.now(),
    sleep: (milliseconds, signal) => sleep(milliseconds, undefined, signal === undefined ? {} : { signal }),
  },
  home: fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, ''),
  terminal: { stdout: process.stdout.isTTY, stderr: process.stderr.isTTY },
  signal: interrupted.signal,
}

await runCli(process.argv.slice(2), context)
