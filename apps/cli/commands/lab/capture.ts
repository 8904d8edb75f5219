import { nodeProcess } from '#apps/lab/inside.ts'
import { labPaths, stateFolder } from '#apps/lab/paths.ts'
import { runAttached } from '#apps/lab/process/attached.ts'
import { isAlive, requireUp } from '#apps/lab/state.ts'
import { BRIDGE } from '#apps/lab/underlay/underlay.ts'
import type { CliContext } from '../../context.ts'
import { Exit } from '../../exit.ts'
import type { LabFlags } from './flags.ts'

export interface CaptureFlags extends LabFlags {
  readonly interface: string | undefined
  readonly count: number | undefined
  readonly write: string | undefined
}

/** tcpdump in a node, or with `underlay` on the bridge that all nodes' traffic crosses. */
export async function capture(
  this: CliContext,
  flags: CaptureFlags,
  where: string,
  ...filter: string[]
): Promise<void> {
  const { state } = requireUp(labPaths(stateFolder(this.env), flags.name), flags.name)
  const bridge = where === BRIDGE && isAlive(state.underlay)
  const pid = bridge ? (state.underlay?.pid ?? 0) : nodeProcess(state, where)
  const device = flags.interface ?? (bridge ? BRIDGE : 'any')
  const options = [
    ...(flags.count === undefined ? [] : ['-c', String(flags.count)]),
    ...(flags.write === undefined ? [] : ['-U', '-w', flags.write]),
  ]
  const tcpdump = ['tcpdump', '-n', '-l', '-i', device, ...options, ...filter]
  const code = await runAttached('nsenter', [`--net=/proc/${pid}/ns/net`, '--', ...tcpdump])
  if (code !== 0) throw new Exit(code)
}
