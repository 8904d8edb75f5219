import { FAMILY_BITS } from '#core/ip/address.ts'
import { cidrFamily, lengthOf } from '#core/ip/cidr.ts'
import type { DiffContext } from './diff-context.ts'
import type { ActualRoute, ActualRule, HostActual } from './host-actual.ts'
import { type HostPlan, type RoutePlan, type RulePlan, TABLE_OVERLAY } from './host-plan.ts'
import { type HostStep, isClosing } from './host-step.ts'

/** The kernel's own metric for an IPv6 route that names none. */
const IPV6_DEFAULT_METRIC = 1024

/** Closing routes come before rules, rules before routes that let out; `diffHost` keeps that order within a phase. */
export function diffRouting(desired: HostPlan, actual: HostActual, context: DiffContext): HostStep[] {
  const routes = diffRoutes(desired.routes, actual.routes, context)
  const closing = routes.filter((step) => 'route' in step && isClosing(step.route))
  return [...closing, ...diffRules(desired.rules, actual.rules), ...routes.filter((step) => !closing.includes(step))]
}

function diffRoutes(
  desired: readonly RoutePlan[],
  actual: readonly ActualRoute[],
  { stateOf, isUp, wait }: DiffContext,
): HostStep[] {
  const there = new Map<string, ActualRoute>()
  const extra: ActualRoute[] = []
  for (const route of actual) {
    const key = keyOf(route)
    if (there.has(key)) extra.push(route)
    else there.set(key, route)
  }
  const direct: HostStep[] = []
  const through: HostStep[] = []
  const wanted = new Set<string>()
  for (const route of desired) {
    const key = keyOf(route)
    // two of the same key cannot both be there: the first one counts
    if (wanted.has(key)) continue
    wanted.add(key)
    const state = route.device === undefined ? 'there' : stateOf(route.device)
    if (state === undefined) {
      wait(route.device ?? '')
      continue
    }
    const found = there.get(key)
    // with a device that is made anew, its routes went
    const gone = found?.device !== undefined && stateOf(found.device) === 'fresh'
    if (found !== undefined && !gone && sameRoute(route, found)) continue
    const steps = route.via === undefined || route.onlink === true ? direct : through
    const ahead = route.table === TABLE_OVERLAY && (route.device === undefined || isUp(route.device))
    const replace = found !== undefined && !gone
    steps.push({ do: 'set route', route, replace, ...(ahead ? { ahead } : {}) })
  }
  const obsolete = [...[...there].filter(([key]) => !wanted.has(key)).map(([, route]) => route), ...extra]
  const removed = obsolete
    .filter((route) => route.device === undefined || stateOf(route.device) !== 'fresh')
    .sort((a, b) => Number(isAddress(b)) - Number(isAddress(a)))
    .map(
      (route): HostStep => ({
        do: 'delete route',
        route: { ...route, type: route.type === 'other' ? 'unicast' : route.type },
      }),
    )
  // a gateway must be reachable before it is used
  return [...direct, ...through, ...removed]
}

/**
 * Removed first: with `nodeEncryption` one table has nodes' addresses and their pods' networks, and what pods send in VXLAN
 * once their network has gone is addressed to nodes: it must not enter the tunnel that the node's address still leads to.
 */
function isAddress({ destination }: Pick<RoutePlan, 'destination'>): boolean {
  return lengthOf(destination) === FAMILY_BITS[cidrFamily(destination)]
}

function metricOf(route: Pick<RoutePlan, 'destination' | 'metric'>): number {
  return route.metric === 0 && cidrFamily(route.destination) === 6 ? IPV6_DEFAULT_METRIC : route.metric
}

/** What the kernel tells two routes apart by. */
function keyOf(route: Pick<RoutePlan, 'table' | 'destination' | 'metric'>): string {
  return `${route.table} ${route.destination} ${metricOf(route)}`
}

function sameRoute(a: RoutePlan, b: ActualRoute): boolean {
  return (
    a.type === b.type &&
    (isClosing(a) || a.device === b.device) &&
    a.via === b.via &&
    (a.onlink ?? false) === (b.onlink ?? false) &&
    a.source === b.source &&
    a.mtu === b.mtu
  )
}

function diffRules(desired: readonly RulePlan[], actual: readonly ActualRule[]): HostStep[] {
  const there = new Set(actual.filter((rule) => !rule.foreign).map(ruleKey))
  const wanted = new Set(desired.map(ruleKey))
  return [
    ...desired.filter((rule) => !there.has(ruleKey(rule))).map((rule): HostStep => ({ do: 'add rule', rule })),
    ...actual
      .filter((rule) => !rule.foreign && !wanted.has(ruleKey(rule)))
      .map((rule): HostStep => ({ do: 'delete rule', rule })),
  ]
}

function ruleKey({ family, priority, source, mark, mask, invert, table }: RulePlan): string {
  return [family, priority, source, mark, mask, invert, table].join(' ')
}
