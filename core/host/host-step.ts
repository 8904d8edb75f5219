import type { Mac } from '#core/ip/mac.ts'
import type {
  AddressPlan,
  FdbPlan,
  LinkPlan,
  NeighbourPlan,
  NftTablePlan,
  RoutePlan,
  RulePlan,
  SysctlPlan,
} from './host-plan.ts'

/** What is set on a link that exists; absent fields stay as they are. */
export interface LinkChange {
  readonly mtu?: number
  readonly mac?: Mac
  readonly gsoMaxSize?: number
  readonly alias?: string
  readonly up?: true
  /** No link-local address, hence no traffic of its own. */
  readonly silent?: true
}

export type CreatedLink = Extract<LinkPlan, { readonly kind: 'veth' | 'vxlan' }>

/** One change of a node's network; each is atomic in the kernel. */
export type HostStep =
  | { readonly do: 'set table'; readonly table: NftTablePlan }
  | { readonly do: 'delete table'; readonly table: Pick<NftTablePlan, 'family' | 'name'> }
  /** Made silent and brought up; `replaces`: older links of ours that are deleted first, with all that stood on them. */
  | { readonly do: 'create link'; readonly link: CreatedLink; readonly replaces: readonly string[] }
  | { readonly do: 'set link'; readonly name: string; readonly change: LinkChange }
  | { readonly do: 'delete link'; readonly name: string }
  | { readonly do: 'set sysctl'; readonly sysctl: SysctlPlan }
  | { readonly do: 'add address' | 'delete address'; readonly address: AddressPlan }
  | { readonly do: 'set neighbour' | 'delete neighbour'; readonly neighbour: NeighbourPlan }
  | { readonly do: 'set fdb'; readonly fdb: FdbPlan }
  | { readonly do: 'delete fdb'; readonly fdb: Pick<FdbPlan, 'device' | 'mac'> }
  /**
   * `replace`: one of ours with the same table, destination and metric is there. `ahead`: packets take it only when a table
   * marks them for it, and nothing that it needs is missing.
   */
  | { readonly do: 'set route'; readonly route: RoutePlan; readonly replace: boolean; readonly ahead?: true }
  | { readonly do: 'delete route'; readonly route: RoutePlan }
  | { readonly do: 'add rule' | 'delete rule'; readonly rule: RulePlan }

/**
 * The order of an apply, and what a failure stops:
 * - `prepare`: routes that are set ahead of the tables of `close`. A failure stops nothing but `release`.
 * - `close`: what drops or steers away from clear paths. A failure stops everything but `withdraw`.
 * - `receive`: devices and what they need to take packets in. A failure stops `open` on that device.
 * - `open`: routes that let packets out. A failure stops `release`, since the old way may still be needed closed.
 * - `withdraw`: routes and entries that nobody wants any more. Always tried: it only closes.
 * - `release`: what closed, and devices. Not tried when anything before failed.
 */
export const PHASES = ['prepare', 'close', 'receive', 'open', 'withdraw', 'release'] as const
export type Phase = (typeof PHASES)[number]

export function phaseOf(step: HostStep): Phase {
  if (step.do === 'set route') {
    if (step.ahead === true) return 'prepare'
    return isClosing(step.route) ? 'close' : 'open'
  }
  if (step.do === 'delete route') return isClosing(step.route) ? 'release' : 'withdraw'
  return PHASE_OF[step.do]
}

const PHASE_OF: Readonly<Record<Exclude<HostStep['do'], 'set route' | 'delete route'>, Phase>> = {
  'set table': 'close',
  'add rule': 'close',
  'create link': 'receive',
  'set link': 'receive',
  'set sysctl': 'receive',
  'add address': 'receive',
  'set neighbour': 'receive',
  'set fdb': 'receive',
  'delete address': 'withdraw',
  'delete neighbour': 'withdraw',
  'delete fdb': 'withdraw',
  'delete link': 'release',
  'delete rule': 'release',
  'delete table': 'release',
}

/** Lets nothing through. */
export function isClosing(route: Pick<RoutePlan, 'type'>): boolean {
  return route.type === 'blackhole' || route.type === 'unreachable'
}

/** The device that a step is about, if it is about one. */
export function deviceOf(step: HostStep): string | undefined {
  if ('name' in step) return step.name
  if ('link' in step) return step.link.name
  if ('sysctl' in step) return sysctlDevice(step.sysctl.path)
  if ('address' in step) return step.address.device
  if ('neighbour' in step) return step.neighbour.device
  if ('fdb' in step) return step.fdb.device
  if ('route' in step) return step.route.device
  return undefined
}

/** `cilium_host` of `net/ipv4/conf/cilium_host/rp_filter`; undefined for `all`, `default` and what is no device's. */
export function sysctlDevice(path: string): string | undefined {
  const device = /^net\/ipv[46]\/(?:conf|neigh)\/([^/]+)\//.exec(path)?.[1]
  return device === 'all' || device === 'default' ? undefined : device
}

/** For logs and errors: "set route 10.0.1.0/24 table 201 dev cilium_wg0". */
export function describeStep(step: HostStep): string {
  return `${step.do} ${objectOf(step)}`
}

/** By what the step carries: each kind of object has a field of its own. */
function objectOf(step: HostStep): string {
  if ('table' in step) return `${step.table.family} ${step.table.name}`
  if ('link' in step) return `${step.link.name} type ${step.link.kind}`
  if ('sysctl' in step) return `${step.sysctl.path} ${step.sysctl.value}`
  if ('address' in step) return `${step.address.ip}/${step.address.length} dev ${step.address.device}`
  if ('neighbour' in step) {
    return `${step.neighbour.ip} lladdr ${step.neighbour.mac} dev ${step.neighbour.device}`
  }
  if ('fdb' in step) {
    const to = 'destination' in step.fdb ? ` dst ${step.fdb.destination}` : ''
    return `${step.fdb.mac}${to} dev ${step.fdb.device}`
  }
  if ('route' in step) return describeRoute(step.route)
  if ('rule' in step) return describeRule(step.rule)
  if (step.do === 'delete link') return step.name
  const changes = Object.entries(step.change).map(([key, value]) => `${key} ${value}`)
  return [step.name, ...changes].join(' ')
}

function describeRoute({ type, destination, via, device, table, metric }: RoutePlan): string {
  return [
    type === 'unicast' ? destination : `${type} ${destination}`,
    ...(via === undefined ? [] : [`via ${via}`]),
    ...(device === undefined ? [] : [`dev ${device}`]),
    `table ${table} metric ${metric}`,
  ].join(' ')
}

function describeRule({ family, priority, source, mark, mask, invert, table }: RulePlan): string {
  const match = [
    ...(invert ? ['not'] : []),
    ...(source === undefined ? [] : [`from ${source}`]),
    ...(mask === 0 ? [] : [`fwmark 0x${mark.toString(16)}/0x${mask.toString(16)}`]),
  ]
  return `IPv${family} ${priority}: ${match.join(' ')} lookup ${table}`
}
