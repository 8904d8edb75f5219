import { nodeProcess } from '#apps/lab/inside.ts'
import { labPaths, stateFolder } from '#apps/lab/paths.ts'
import { runAttached } from '#apps/lab/process/attached.ts'
import { requireUp } from '#apps/lab/state.ts'
import type { CliContext } from '../../context.ts'
import { Exit } from '../../exit.ts'
import type { LabFlags } from './flags.ts'

/** Runs a command in a node (bash when none is given), its exit code is ours. */
export async function exec(this: CliContext, flags: LabFlags, node: string, ...command: string[]): Promise<void> {
  const { state } = requireUp(labPaths(stateFolder(this.env), flags.name), flags.name)
  const pid = nodeProcess(state, node)
  const wanted = command.length === 0 ? ['bash'] : command
  const code = await runAttached(
    'nsenter',
    ['-t', String(pid), '-m', '-u', '-n', '-p', '-i', '-C', '-r', '-w', '--', ...wanted],
    {
      env: {
        ...this.env,
        PATH: '/usr/local/lib/kubernetes:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        HOSTNAME: node,
        KUBECONFIG: undefined,
      },
    },
  )
  if (code !== 0) throw new Exit(code)
}
