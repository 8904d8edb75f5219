import type { Ip } from '#core/ip/address.ts'
import type { Mac } from '#core/ip/mac.ts'
import type { AddressPlan, NeighbourPlan, NftTablePlan, RoutePlan, RulePlan } from './host-plan.ts'

/**
 * What a node's own network has, as far as {@link HostPlan} can speak of it: all links and their addresses, of routes,
 * rules and neighbours only ours, of nftables only tables named {@link OUR_TABLE_PREFIX}…. `io/kernel` reads it.
 */
export interface HostActual {
  readonly links: readonly ActualLink[]
  /** Of every link, without link-local ones. */
  readonly addresses: readonly AddressPlan[]
  readonly routes: readonly ActualRoute[]
  readonly rules: readonly ActualRule[]
  readonly neighbours: readonly NeighbourPlan[]
  /** Of every VXLAN link. */
  readonly fdb: readonly ActualFdb[]
  readonly tables: readonly ActualTable[]
  /** Of the plan's paths; those that do not exist are absent. */
  readonly sysctls: readonly { readonly path: string; readonly value: string }[]
}

export const OUR_TABLE_PREFIX = 'pellicle'

/** The alias of every link that was created for a plan: how a link that no plan wants any more is known as ours. */
export const OUR_LINK_ALIAS = 'pellicle'

export interface ActualLink {
  readonly name: string
  /** The kernel's word: `veth`, `vxlan`, `tun`, `wireguard`, …, `physical`. */
  readonly kind: string
  readonly up: boolean
  readonly mtu: number
  readonly mac?: Mac
  readonly gsoMaxSize?: number
  readonly alias?: string
  /** True when the kernel gives it no link-local address. Absent: no IPv6 on this device. */
  readonly silent?: boolean
  /** Of a veth whose other end is in the same namespace. */
  readonly peer?: string
  readonly vxlan?: { readonly vni: number; readonly port: number; readonly local?: Ip; readonly learning: boolean }
}

export interface ActualRoute extends Omit<RoutePlan, 'type'> {
  /** `other`: has our protocol but a form that we never make. */
  readonly type: RoutePlan['type'] | 'other'
}

export interface ActualRule extends RulePlan {
  /** Has our protocol but other selectors or another action. */
  readonly foreign: boolean
}

export interface ActualFdb {
  readonly device: string
  readonly mac: Mac
  readonly destination?: Ip
}

export interface ActualTable extends Pick<NftTablePlan, 'family' | 'name'> {
  /** The plan's text that it was made from; absent when somebody changed it since, or it was not made by us. */
  readonly body?: string
}
