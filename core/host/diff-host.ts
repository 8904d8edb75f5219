import { Fault } from '#core/fault/fault.ts'
import type { DiffContext } from './diff-context.ts'
import { diffEntries } from './diff-entries.ts'
import { diffLinks } from './diff-links.ts'
import { diffRouting } from './diff-routing.ts'
import type { HostActual } from './host-actual.ts'
import type { HostPlan } from './host-plan.ts'
import { type HostStep, PHASES, phaseOf, sysctlDevice } from './host-step.ts'

export interface HostDiff {
  /** In the order to apply; see {@link PHASES}. */
  readonly steps: readonly HostStep[]
  /** What cannot be done yet, by the device that is missing: how many of its objects wait. */
  readonly waiting: ReadonlyMap<string, number>
  /** What cannot be done at all, e.g. a link of our name that is of another kind. Steps that need it are left out. */
  readonly faults: readonly Fault[]
}

/**
 * The steps from `actual` to `desired`. Pure; nothing to do gives no step. Objects that are not ours never appear in a
 * step, and a device that others make (`given`) is waited for, together with what stands on it.
 */
export function diffHost(desired: HostPlan, actual: HostActual): HostDiff {
  const steps: HostStep[] = []
  const waiting = new Map<string, number>()
  const wait = (device: string) => waiting.set(device, (waiting.get(device) ?? 0) + 1)

  const links = diffLinks(desired.links, actual.links)
  steps.push(...links.steps)
  for (const name of links.missing) wait(name)

  /** Undefined: such a device will not be there. `fresh`: it is made by these steps, so it has nothing yet. */
  const stateOf = (device: string): 'there' | 'fresh' | undefined =>
    links.blocked.has(device)
      ? undefined
      : links.created.has(device)
        ? 'fresh'
        : actual.links.some((link) => link.name === device)
          ? 'there'
          : undefined
  const isUp = (device: string) => actual.links.some((link) => link.name === device && link.up)
  const context = { stateOf: memo(stateOf), isUp: memo(isUp), wait }

  const tables = diffTables(desired, actual)
  steps.push(...tables.set, ...diffSysctls(desired, actual, context))
  steps.push(...diffEntries(desired, actual, context))
  steps.push(...diffRouting(desired, actual, context), ...tables.delete)

  // within a phase the order above holds (sort is stable)
  const rank = new Map(PHASES.map((phase, index) => [phase, index]))
  steps.sort((a, b) => (rank.get(phaseOf(a)) ?? 0) - (rank.get(phaseOf(b)) ?? 0))
  return { steps, waiting, faults: links.faults }
}

function memo<T>(compute: (key: string) => T): (key: string) => T {
  const known = new Map<string, { value: T }>()
  return (key) => {
    const found = known.get(key) ?? { value: compute(key) }
    known.set(key, found)
    return found.value
  }
}

function diffTables(desired: HostPlan, actual: HostActual): Record<'set' | 'delete', HostStep[]> {
  const key = (table: { family: string; name: string }) => `${table.family} ${table.name}`
  const there = new Map(actual.tables.map((table) => [key(table), table]))
  const wanted = new Set(desired.tables.map(key))
  return {
    set: desired.tables
      .filter((table) => there.get(key(table))?.body !== table.body)
      .map((table) => ({ do: 'set table', table })),
    delete: actual.tables
      .filter((table) => !wanted.has(key(table)))
      .map(({ family, name }) => ({ do: 'delete table', table: { family, name } })),
  }
}

function diffSysctls(desired: HostPlan, actual: HostActual, { stateOf, wait }: DiffContext): HostStep[] {
  const there = new Map(actual.sysctls.map(({ path, value }) => [path, value]))
  const steps: HostStep[] = []
  for (const sysctl of desired.sysctls) {
    const device = sysctlDevice(sysctl.path)
    const state = device === undefined ? 'there' : stateOf(device)
    if (state === undefined) wait(device ?? sysctl.path)
    // a device of ours without that file: no IPv6 on this machine
    else if (device !== undefined && state === 'there' && !there.has(sysctl.path)) wait(`/proc/sys/${sysctl.path}`)
    else if (state === 'fresh' || there.get(sysctl.path) !== sysctl.value) steps.push({ do: 'set sysctl', sysctl })
  }
  return steps
}
