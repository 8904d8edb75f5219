import type { Command, RouteMap } from '@stricli/core'
import type { CliContext } from '../../context.ts'

/** The commands of `pellicle lab`, each loading its implementation when it is called. */
export const labRoutes: Record<string, Command<CliContext> | RouteMap<CliContext>> = {}
