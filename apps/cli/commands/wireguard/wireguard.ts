import { type StdioOptions, spawn } from 'node:child_process'
import { join } from 'node:path'
import type { CliContext } from '../../context.ts'
import { Exit } from '../../exit.ts'

export interface WireguardFlags {
  readonly foreground: boolean
}

/** Hands over to `bin/pellicle-wireguard` and ends as it does. */
export async function wireguard(this: CliContext, flags: WireguardFlags, device: string): Promise<void> {
  const program = join(this.home, 'bin/pellicle-wireguard')
  const args = [...(flags.foreground ? ['--foreground'] : []), device]
  const child = spawn(program, args, { env: { ...this.env }, stdio: descriptors(this.env) })
  const stop = () => child.kill('SIGTERM')
  this.signal.addEventListener('abort', stop)
  const code = await new Promise<number>((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (status) => resolve(status ?? 1))
  })
  this.signal.removeEventListener('abort', stop)
  if (code !== 0) throw new Exit(code)
}

/** The standard ones, and those that the environment names keep their numbers. */
function descriptors(env: CliContext['env']): StdioOptions {
  const stdio: ('inherit' | 'ignore' | number)[] = ['inherit', 'inherit', 'inherit']
  for (const name of ['WG_TUN_FD', 'WG_UAPI_FD']) {
    const text = env[name] ?? ''
    if (!/^[0-9]{1,4}$/.test(text)) continue
    while (stdio.length <= Number(text)) stdio.push('ignore')
    stdio[Number(text)] = Number(text)
  }
  return stdio
}
