import { buildCommand } from '@stricli/core'
import type { CliContext } from '../../context.ts'
import { clusterFlags, count, duration, releaseFlag } from '../../flags.ts'
import type { StatusFlags } from './status.ts'

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
