import { buildRouteMap, type Command, type RouteMap } from '@stricli/core'
import { labRoutes } from './commands/lab/routes.ts'
import { statusCommand } from './commands/status/command.ts'
import { versionCommand } from './commands/version/command.ts'
import type { CliContext } from './context.ts'

const routes: Record<string, Command<CliContext> | RouteMap<CliContext>> = {
  status: statusCommand,
  version: versionCommand,
}

if (Object.keys(labRoutes).length > 0) {
  routes['lab'] = buildRouteMap({ routes: labRoutes, docs: { brief: 'A real Kubernetes cluster on this machine' } })
}

/** The folder tree under `commands/` is the command tree. */
export const rootRoutes = buildRouteMap({
  routes,
  docs: { brief: 'Transparent encryption for Kubernetes networks' },
})
