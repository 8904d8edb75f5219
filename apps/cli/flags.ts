import type { FlagParametersForType } from '@stricli/core'
import type { CliContext } from './context.ts'

/** Flags of every command that talks to a cluster. */
export interface ClusterFlags {
  readonly namespace: string
  readonly context: string | undefined
  readonly kubeconfig: string | undefined
}

export function text(input: string): string {
  return input
}

export const clusterFlags: FlagParametersForType<ClusterFlags, CliContext> = {
  namespace: { kind: 'parsed', parse: text, brief: 'Namespace of the agents', default: 'kube-system' },
  context: { kind: 'parsed', parse: text, brief: 'Context of the kubeconfig', optional: true },
  kubeconfig: { kind: 'parsed', parse: text, brief: 'Path of the kubeconfig file', optional: true },
}
