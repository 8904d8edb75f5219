import type { Family, Ip } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import type { Mac } from '#core/ip/mac.ts'

/**
 * What a node's own network should have: the plan's half that is the same for every datapath ("steering"). A plain
 * value: two are equal when their JSON is. `io/kernel` reads the actual one back, and `diffHost` gives ordered steps.
 *
 * We own routes, rules and neighbours by their protocol number {@link OUR_PROTOCOL}, links by their names, nftables by
 * the table's name. Nothing else is ever touched.
 */
export interface HostPlan {
  readonly links: readonly LinkPlan[]
  readonly addresses: readonly AddressPlan[]
  readonly routes: readonly RoutePlan[]
  readonly rules: readonly RulePlan[]
  readonly neighbours: readonly NeighbourPlan[]
  readonly fdb: readonly FdbPlan[]
  /** The whole text of each of our tables, in `nft -f` syntax without a leading `delete`; replaced atomically. */
  readonly tables: readonly NftTablePlan[]
  readonly sysctls: readonly SysctlPlan[]
}

/** Nothing of ours: what a node has before the first plan and after the last. */
export const EMPTY_HOST_PLAN: HostPlan = {
  links: [],
  addresses: [],
  routes: [],
  rules: [],
  neighbours: [],
  fdb: [],
  tables: [],
  sysctls: [],
}

/** `proto` of everything that we put into the routing tables; unassigned in /etc/iproute2/rt_protos. */
export const OUR_PROTOCOL = 112

/** as Cilium's */
export const TABLE_ENCRYPT_MARKED = 200
export const TABLE_STEERING = 201
/** Ours: where pods of a node that is opted out of `nodeEncryption` find other nodes. */
export const TABLE_POD_STEERING = 202
/** Ours: what `cilium_vxlan` sends to nodes by way of the encryption device. */
export const TABLE_OVERLAY = 203

interface LinkCommon {
  readonly name: string
  readonly mtu: number
  /** Absent: whatever the kernel gave. */
  readonly mac?: Mac
  /** Bytes; what one super packet may have (ADR 0004). */
  readonly gsoMaxSize?: number
}

export type LinkPlan =
  /** A veth pair; the peer is part of it and gets the same MTU. */
  | (LinkCommon & { readonly kind: 'veth'; readonly peer: string })
  /** Without learning: fdb entries name every peer. */
  | (LinkCommon & { readonly kind: 'vxlan'; readonly vni: number; readonly port: number; readonly local: Ip })
  /** Made by somebody else (a datapath's TUN or WireGuard device): only its attributes are ours. Waited for, never created. */
  | (LinkCommon & { readonly kind: 'given' })

export interface AddressPlan {
  readonly device: string
  readonly ip: Ip
  readonly length: number
}

export interface RoutePlan {
  readonly table: number
  readonly destination: Cidr
  readonly type: 'unicast' | 'local' | 'blackhole' | 'unreachable'
  readonly device?: string
  readonly via?: Ip
  /** The gateway is reachable although no address says so. */
  readonly onlink?: true
  /** Preferred source address. */
  readonly source?: Ip
  readonly metric: number
  readonly mtu?: number
}

export interface RulePlan {
  readonly family: Family
  readonly priority: number
  /** Only packets from there. Absent: from anywhere. `invert` would turn it round too. */
  readonly source?: Cidr
  readonly mark: number
  readonly mask: number
  /** "not fwmark" */
  readonly invert: boolean
  readonly table: number
}

/** Permanent. */
export interface NeighbourPlan {
  readonly device: string
  readonly ip: Ip
  readonly mac: Mac
}

/** Where a VXLAN device sends frames for `mac`; permanent. */
export interface FdbPlan {
  readonly device: string
  readonly mac: Mac
  readonly destination: Ip
}

export interface NftTablePlan {
  readonly family: 'ip' | 'ip6' | 'inet'
  readonly name: string
  /** What stands between the braces. */
  readonly body: string
}

/** `net.ipv4.conf.cilium_vxlan.rp_filter` with slashes instead of dots, below /proc/sys. */
export interface SysctlPlan {
  readonly path: string
  readonly value: string
}
