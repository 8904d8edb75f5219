import { buildCommand } from '@stricli/core'
import type { CliContext } from '../../context.ts'
import { type DeployFlags, deployAliases, deployFlags } from '../../install/flags.ts'

export const installCommand = buildCommand<DeployFlags, [], CliContext>({
  loader: async () => (await import('./install.ts')).install,
  parameters: { flags: deployFlags, aliases: deployAliases },
  docs: {
    brief: 'Install into the cluster, where no other CNI runs',
    fullDescription:
      'Installs the Helm chart after looking whether the cluster is free. Values have the names of Cilium’s chart. ' +
      'Refuses, changing nothing: another CNI or another Cilium, unknown or wrongly typed values, and values that ' +
      'promise a security property that is not built.',
    customUsage: ['--version 1.14.5 --set encryption.enabled=true --set encryption.type=wireguard'],
  },
})
