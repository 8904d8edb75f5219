import { buildCommand } from '@stricli/core'
import type { CliContext } from '../../context.ts'
import { deployAliases, deployFlags } from '../../install/flags.ts'
import type { UpgradeFlags } from './upgrade.ts'

export const upgradeCommand = buildCommand<UpgradeFlags, [], CliContext>({
  loader: async () => (await import('./upgrade.ts')).upgrade,
  parameters: {
    flags: {
      ...deployFlags,
      resetValues: { kind: 'boolean', brief: 'Forget the values that were given before', default: false },
    },
    aliases: deployAliases,
  },
  docs: {
    brief: 'Change an installation, or bring it to this release',
    fullDescription:
      'Values that were given before stay, unless --reset-values. Turning encryption on or off loses no packet: every ' +
      'node can receive before any sends, and none closes before all send; --wait shows how far it is.',
    customUsage: ['--set encryption.enabled=true --set encryption.type=wireguard --wait'],
  },
})
