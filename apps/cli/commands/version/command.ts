import { buildCommand } from '@stricli/core'
import type { CliContext } from '../../context.ts'
import { clusterFlags } from '../../flags.ts'
import type { VersionFlags } from './version.ts'

export const versionCommand = buildCommand<VersionFlags, [], CliContext>({
  loader: async () => (await import('./version.ts')).version,
  parameters: {
    flags: {
      ...clusterFlags,
      client: { kind: 'boolean', brief: 'Only of this program, without asking the cluster', default: false },
    },
    aliases: { n: 'namespace' },
  },
  docs: { brief: 'Show the version of this program and of what runs in the cluster' },
})
