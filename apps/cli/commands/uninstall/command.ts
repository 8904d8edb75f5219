import { buildCommand } from '@stricli/core'
import type { CliContext } from '../../context.ts'
import { clusterFlags, duration, releaseFlag } from '../../flags.ts'
import type { UninstallFlags } from './uninstall.ts'

export const uninstallCommand = buildCommand<UninstallFlags, [], CliContext>({
  loader: async () => (await import('./uninstall.ts')).uninstall,
  parameters: {
    flags: {
      ...clusterFlags,
      ...releaseFlag,
      waitDuration: {
        kind: 'parsed',
        parse: duration,
        brief: 'How long nodes may take',
        placeholder: 'duration',
        default: '5m',
      },
      force: {
        kind: 'boolean',
        brief: 'Go on although some nodes have not cleaned up: they stay closed',
        default: false,
      },
      wait: { kind: 'boolean', brief: 'Wait until all pods of the release are gone', default: true },
      interactive: { kind: 'boolean', brief: 'Show progress, on a terminal', default: true },
    },
    aliases: { n: 'namespace' },
  },
  docs: {
    brief: 'Remove everything: first from the nodes, then the release',
    fullDescription:
      'Every node removes its devices, routes, rules, tables, CNI files and keys and says so; then the Helm release and ' +
      'the CRD go. Pods keep running, without a network until the next installation.',
  },
})
