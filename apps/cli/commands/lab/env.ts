import { shellQuote } from '#apps/lab/node/services.ts'
import { labPaths, stateFolder } from '#apps/lab/paths.ts'
import { type LabState, requireUp } from '#apps/lab/state.ts'
import type { CliContext } from '../../context.ts'
import type { LabFlags } from './flags.ts'

/** Lines for `eval`. */
export function env(this: CliContext, flags: LabFlags): void {
  const paths = labPaths(stateFolder(this.env), flags.name)
  const { state } = requireUp(paths, flags.name)
  for (const [name, value] of Object.entries(labEnvironment(this, state, paths.kubeconfig))) {
    this.process.stdout.write(`export ${name}=${shellQuote(value)}\n`)
  }
}

/** PATH with this checkout's commands and the cluster's own programs first, once each; KUBECONFIG. */
export function labEnvironment(context: CliContext, state: LabState, kubeconfig: string): Record<string, string> {
  const first = [`${context.home}/bin`, state.programs]
  const rest = (context.env['PATH'] ?? '').split(':').filter((folder) => folder !== '' && !first.includes(folder))
  return { PATH: [...first, ...rest].join(':'), KUBECONFIG: kubeconfig, PELLICLE_LAB: state.options.name }
}
