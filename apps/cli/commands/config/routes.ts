import { buildCommand, buildRouteMap } from '@stricli/core'
import type { CliContext } from '../../context.ts'
import { type ClusterFlags, clusterFlags, text } from '../../flags.ts'
import type { ChangeFlags } from './config.ts'

const restart = {
  kind: 'boolean',
  brief: 'Restart agents and operator, which read it only when they start',
  default: true,
} as const

const view = buildCommand<ClusterFlags, [], CliContext>({
  loader: async () => (await import('./config.ts')).view,
  parameters: { flags: clusterFlags, aliases: { n: 'namespace' } },
  docs: { brief: 'Show all keys, sorted' },
})

const set = buildCommand<ChangeFlags, [string, string], CliContext>({
  loader: async () => (await import('./config.ts')).set,
  parameters: {
    flags: { ...clusterFlags, restart },
    aliases: { n: 'namespace', r: 'restart' },
    positional: {
      kind: 'tuple',
      parameters: [
        { parse: text, brief: 'Key', placeholder: 'key' },
        { parse: text, brief: 'Value', placeholder: 'value' },
      ],
    },
  },
  docs: { brief: 'Set one key and restart agents and operator' },
})

const remove = buildCommand<ChangeFlags, [string], CliContext>({
  loader: async () => (await import('./config.ts')).remove,
  parameters: {
    flags: { ...clusterFlags, restart },
    aliases: { n: 'namespace', r: 'restart' },
    positional: { kind: 'tuple', parameters: [{ parse: text, brief: 'Key', placeholder: 'key' }] },
  },
  docs: { brief: 'Delete one key and restart agents and operator' },
})

export const configRoutes = buildRouteMap({
  routes: { view, set, delete: remove },
  docs: { brief: 'The ConfigMap that agents and operator read' },
})
