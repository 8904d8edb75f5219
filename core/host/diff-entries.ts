import type { DiffContext } from './diff-context.ts'
import type { ActualFdb, HostActual } from './host-actual.ts'
import type { AddressPlan, HostPlan, NeighbourPlan } from './host-plan.ts'
import type { HostStep } from './host-step.ts'

/** Addresses, neighbours and forwarding entries: what stands on one device and needs nothing else. */
export function diffEntries(desired: HostPlan, actual: HostActual, context: DiffContext): HostStep[] {
  return [
    ...diffAddresses(desired, actual, context),
    ...diffNeighbours(desired, actual, context),
    ...diffFdb(desired, actual, context),
  ]
}

/** On the plan's links every address is ours; on others only what the plan names, and nothing is removed there. */
function diffAddresses(desired: HostPlan, actual: HostActual, { stateOf, wait }: DiffContext): HostStep[] {
  const key = ({ device, ip, length }: AddressPlan) => `${device} ${ip}/${length}`
  const there = new Set(actual.addresses.map(key))
  const wanted = new Set(desired.addresses.map(key))
  const owned = new Set(desired.links.flatMap((link) => (link.kind === 'veth' ? [link.name, link.peer] : [link.name])))
  const steps: HostStep[] = []
  for (const address of desired.addresses) {
    const state = stateOf(address.device)
    if (state === undefined) wait(address.device)
    else if (state === 'fresh' || !there.has(key(address))) steps.push({ do: 'add address', address })
  }
  for (const address of actual.addresses) {
    const gone = stateOf(address.device) !== 'there'
    if (owned.has(address.device) && !wanted.has(key(address)) && !gone) steps.push({ do: 'delete address', address })
  }
  return steps
}

function diffNeighbours(desired: HostPlan, actual: HostActual, { stateOf, wait }: DiffContext): HostStep[] {
  const key = ({ device, ip }: NeighbourPlan) => `${device} ${ip}`
  const there = new Map(actual.neighbours.map((neighbour) => [key(neighbour), neighbour.mac]))
  const wanted = new Set(desired.neighbours.map(key))
  const steps: HostStep[] = []
  for (const neighbour of desired.neighbours) {
    const state = stateOf(neighbour.device)
    if (state === undefined) wait(neighbour.device)
    else if (state === 'fresh' || there.get(key(neighbour)) !== neighbour.mac) {
      steps.push({ do: 'set neighbour', neighbour })
    }
  }
  for (const neighbour of actual.neighbours) {
    if (!wanted.has(key(neighbour)) && stateOf(neighbour.device) === 'there') {
      steps.push({ do: 'delete neighbour', neighbour })
    }
  }
  return steps
}

/** Every entry of a VXLAN device of the plan is ours. The kernel keeps one destination for a unicast address. */
function diffFdb(desired: HostPlan, actual: HostActual, { stateOf, wait }: DiffContext): HostStep[] {
  const key = ({ device, mac }: Pick<ActualFdb, 'device' | 'mac'>) => `${device} ${mac}`
  const there = new Map(actual.fdb.map((entry) => [key(entry), entry]))
  const wanted = new Set(desired.fdb.map(key))
  const owned = new Set(desired.links.filter((link) => link.kind === 'vxlan').map((link) => link.name))
  const steps: HostStep[] = []
  for (const fdb of desired.fdb) {
    const state = stateOf(fdb.device)
    if (state === undefined) wait(fdb.device)
    else if (state === 'fresh' || there.get(key(fdb))?.destination !== fdb.destination) {
      steps.push({ do: 'set fdb', fdb })
    }
  }
  for (const [name, { device, mac }] of there) {
    if (wanted.has(name) || !owned.has(device) || stateOf(device) !== 'there') continue
    steps.push({ do: 'delete fdb', fdb: { device, mac } })
  }
  return steps
}
