import { buildCommand } from '@stricli/core'
import type { CliContext } from '../../context.ts'
import { type ClusterFlags, clusterFlags, count, duration, releaseFlag } from '../../flags.ts'

export interface StatusFlags extends ClusterFlags {
  readonly wait: boolean
  /** Milliseconds. */
  readonly waitDuration: number
  readonly ignoreWarnings: boolean
  readonly interactive: boolean
  readonly workerCount: number
  readonly output: 'summary' | 'json'
  readonly helmReleaseName: string
}

export const statusCommand = buildCommand<StatusFlags, [], CliContext>({
  loader: async () => (await import('./status.ts')).status,
  parameters: {
    flags: {
      ...clusterFlags,
      ...releaseFlag,
      wait: { kind: 'boolean', brief: 'Wait until there are no errors and no warnings', default: false },
      waitDuration: {
        kind: 'parsed',
        parse: duration,
        brief: 'How long to wait',
        placeholder: 'duration',
        default: '5m',
      },
      ignoreWarnings: { kind: 'boolean', brief: 'Do not wait for warnings to go', default: false },
      interactive: { kind: 'boolean', brief: 'Show progress while waiting, on a terminal', default: true },
      workerCount: { kind: 'parsed', parse: count, brief: 'How many agents are asked at once', default: '5' },
      output: { kind: 'enum', values: ['summary', 'json'], brief: 'Form of the result', default: 'summary' },
    },
    aliases: { n: 'namespace', o: 'output' },
  },
  docs: { brief: 'Show what runs, and what is wrong with it' },
})
