import { type Command, FlagNotFoundError, type RouteMap } from '@stricli/core'
import { nearest } from '#core/api/nearest.ts'
import type { CliContext } from './context.ts'

type Route = Command<CliContext> | RouteMap<CliContext>

/**
 * The same fault with the nearest flag of the command that `inputs` name. Stricli compares what was typed,
 * `--per-node-detials`, with its own `perNodeDetails`: two hyphens are too far apart for it to find a slip.
 */
export function withNearestFlag(fault: FlagNotFoundError, root: Route, inputs: readonly string[]): FlagNotFoundError {
  const close = nearest(kebab(fault.input), flagsOf(root, inputs))
  return close === undefined ? fault : new FlagNotFoundError(fault.input, [close], fault.aliasName)
}

/** As they are typed, without `--`; of what can be negated, `no-wait` as well. */
function flagsOf(root: Route, inputs: readonly string[]): string[] {
  let route = root
  for (const input of inputs) {
    if (!('getRoutingTargetForInput' in route)) break
    route = route.getRoutingTargetForInput(input) ?? route.getRoutingTargetForInput(camel(input)) ?? route
  }
  if (!('parameters' in route)) return []
  return Object.entries(route.parameters.flags ?? {}).flatMap(([name, flag]) => {
    const negated = flag.kind === 'boolean' && flag.withNegated !== false
    return negated ? [kebab(name), `no-${kebab(name)}`] : [kebab(name)]
  })
}

export function kebab(name: string): string {
  return name.replaceAll(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)
}

function camel(name: string): string {
  return name.replaceAll(/-([a-z])/g, (_, c: string) => c.toUpperCase())
}
