import { run } from '../process/run.ts'
import type { ProgramPin } from './pins.ts'

/** How the programs of a module are asked for their version; one without is never taken from elsewhere. */
const VERSION_ARGS: Readonly<Record<string, readonly string[]>> = {
  kubernetes: ['--version'],
  etcd: ['--version'],
  helm: ['version', '--short'],
}

/** Whether a program of this kind can say its version. */
export function saysVersion(pin: ProgramPin): boolean {
  return VERSION_ARGS[pin.module] !== undefined
}

/** What `file` says that it is, without `v` and build: `1.34.4`, `1.35.0-rc.1`; undefined when it says nothing of the kind. */
export async function programVersion(pin: ProgramPin, file: string): Promise<string | undefined> {
  const args = pin.name === 'kubectl' ? ['version', '--client'] : VERSION_ARGS[pin.module]
  if (args === undefined) return undefined
  const says = await run(file, args, { signal: AbortSignal.timeout(30_000) }).catch(() => '')
  return /\bv?(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)/.exec(says)?.[1]
}
