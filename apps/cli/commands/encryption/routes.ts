import { buildCommand, buildRouteMap } from '@stricli/core'
import type { CliContext } from '../../context.ts'
import { type ClusterFlags, clusterFlags, duration, text } from '../../flags.ts'

export interface EncryptionStatusFlags extends ClusterFlags {
  readonly agentPodSelector: string
  readonly node: string | undefined
  readonly perNodeDetails: boolean
  /** Milliseconds. */
  readonly waitDuration: number
  readonly output: 'summary' | 'json'
}

const status = buildCommand<EncryptionStatusFlags, [], CliContext>({
  loader: async () => (await import('./status.ts')).encryptionStatus,
  parameters: {
    flags: {
      ...clusterFlags,
      agentPodSelector: { kind: 'parsed', parse: text, brief: 'Labels of the agents', default: 'k8s-app=cilium' },
      node: { kind: 'parsed', parse: text, brief: 'Only this node', placeholder: 'name', optional: true },
      perNodeDetails: { kind: 'boolean', brief: 'One answer for each node', default: false },
      waitDuration: {
        kind: 'parsed',
        parse: duration,
        brief: 'How long agents may take',
        placeholder: 'duration',
        default: '1m',
      },
      output: { kind: 'enum', values: ['summary', 'json'], brief: 'Form of the result', default: 'summary' },
    },
    aliases: { n: 'namespace', o: 'output' },
  },
  docs: { brief: 'Ask every agent how it encrypts' },
})

export const encryptionRoutes = buildRouteMap({
  routes: { status },
  docs: { brief: 'Encryption of the whole cluster' },
})
