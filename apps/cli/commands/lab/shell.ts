import { labPaths, stateFolder } from '#apps/lab/paths.ts'
import { runAttached } from '#apps/lab/process/attached.ts'
import { requireUp } from '#apps/lab/state.ts'
import type { CliContext } from '../../context.ts'
import { Exit } from '../../exit.ts'
import { labEnvironment } from './env.ts'
import type { LabFlags } from './flags.ts'

/** bash in examples/, so that `kubectl apply -f endor.yaml` works as in the guides. */
export async function shell(this: CliContext, flags: LabFlags): Promise<void> {
  const paths = labPaths(stateFolder(this.env), flags.name)
  const { state } = requireUp(paths, flags.name)
  const code = await runAttached('bash', [], {
    cwd: `${this.home}/examples`,
    env: { ...this.env, ...labEnvironment(this, state, paths.kubeconfig) },
  })
  if (code !== 0) throw new Exit(code)
}
