import { buildRouteMap, type Command, type RouteMap } from '@stricli/core'
import { completionRoutes } from './commands/completion/routes.ts'
import { configRoutes } from './commands/config/routes.ts'
import { encryptionRoutes } from './commands/encryption/routes.ts'
import { installCommand } from './commands/install/command.ts'
import { labRoutes } from './commands/lab/routes.ts'
import { statusCommand } from './commands/status/command.ts'
import { uninstallCommand } from './commands/uninstall/command.ts'
import { upgradeCommand } from './commands/upgrade/command.ts'
import { versionCommand } from './commands/version/command.ts'
import { wireguardCommand } from './commands/wireguard/command.ts'
import type { CliContext } from './context.ts'

const routes: Record<string, Command<CliContext> | RouteMap<CliContext>> = {
  install: installCommand,
  upgrade: upgradeCommand,
  uninstall: uninstallCommand,
  status: statusCommand,
  config: configRoutes,
  encryption: encryptionRoutes,
  lab: buildRouteMap({ routes: labRoutes, docs: { brief: 'A real Kubernetes cluster on this machine' } }),
  wireguard: wireguardCommand,
  version: versionCommand,
  completion: completionRoutes,
}

/** The folder tree under `commands/` is the command tree. */
export const rootRoutes = buildRouteMap({
  routes,
  aliases: { encrypt: 'encryption' },
  docs: { brief: 'Transparent encryption for Kubernetes networks' },
})
