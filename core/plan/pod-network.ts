import type { AddressPlan, NeighbourPlan, RoutePlan } from '#core/host/host-plan.ts'
import { FAMILIES, FAMILY_BITS, type Ip } from '#core/ip/address.ts'
import { hostCidr, requireCidr } from '#core/ip/cidr.ts'
import type { Mac } from '#core/ip/mac.ts'
import { gsoMaxSize, podDeviceMtu, podMtu } from './mtu.ts'
import { METRIC, TABLE_MAIN } from './routes.ts'
import { type PerFamily, type Snapshot } from './snapshot.ts'

/** What stands inside a pod's network namespace, on its own end of the veth pair. */
export interface PodNetwork {
  /** Bytes, of both ends. */
  readonly mtu: number
  /** Bytes: what the pod hands over as one super packet. Absent: leave the kernel's. */
  readonly gsoMaxSize?: number
  readonly addresses: readonly AddressPlan[]
  /** In order: the way to the gateway first, then the default route over it. */
  readonly routes: readonly RoutePlan[]
  /** The gateway never needs to be asked for. */
  readonly neighbours: readonly NeighbourPlan[]
}

const EVERYTHING = { 4: requireCidr('0.0.0.0/0', 'default'), 6: requireCidr('::/0', 'default') } as const

/** `hostMac`: of the host's end. The gateway is the node's internal IP, which `cilium_host` carries. */
export function podNetwork(
  snapshot: Snapshot,
  pod: { readonly device: string; readonly ips: PerFamily<Ip>; readonly hostMac: Mac },
): PodNetwork {
  const { device, ips, hostMac } = pod
  const addresses: AddressPlan[] = []
  const routes: RoutePlan[] = []
  const neighbours: NeighbourPlan[] = []
  for (const family of FAMILIES) {
    const [ip, gateway] = [ips[family], snapshot.self.internalIps[family]]
    if (ip === undefined || gateway === undefined) continue
    const common = { table: TABLE_MAIN, type: 'unicast', device, metric: METRIC } as const
    addresses.push({ device, ip, length: FAMILY_BITS[family] })
    routes.push({ ...common, destination: hostCidr(gateway) })
    routes.push({ ...common, destination: EVERYTHING[family], via: gateway, mtu: podMtu(snapshot) })
    neighbours.push({ device, ip: gateway, mac: hostMac })
  }
  return { mtu: podDeviceMtu(snapshot), gsoMaxSize: gsoMaxSize(snapshot.config), addresses, routes, neighbours }
}
