import { type HostPlan, type RoutePlan, TABLE_ENCRYPT_MARKED, TABLE_OVERLAY } from '#core/host/host-plan.ts'
import { isClosing } from '#core/host/host-step.ts'

/**
 * The engine sends a first packet as soon as it has a key to send by; pods' packets are led to it after that. With ESP
 * inside VXLAN the encrypted packet needs a way of its own, so that comes before both: `next` with its tables, neighbours
 * and ways of what is encrypted, and the ways into tunnels as they were `before`. Undefined: no new way is needed.
 */
export function withWayOfCarriers(before: HostPlan, next: HostPlan): HostPlan | undefined {
  const known = new Set(before.routes.filter(isWayOfCarriers).map(({ destination }) => destination))
  if (next.routes.every((route) => !isWayOfCarriers(route) || known.has(route.destination))) return undefined
  const carriers = (route: RoutePlan) => CARRIERS.has(route.table) || isClosing(route)
  const routes = [...next.routes.filter(carriers), ...before.routes.filter((route) => !carriers(route))]
  return { ...next, routes }
}

/** Only marked packets look there. */
const CARRIERS: ReadonlySet<number> = new Set([TABLE_ENCRYPT_MARKED, TABLE_OVERLAY])

function isWayOfCarriers(route: RoutePlan): boolean {
  return route.table === TABLE_ENCRYPT_MARKED && !isClosing(route)
}
