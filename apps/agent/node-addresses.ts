import { Fault } from '#core/fault/fault.ts'
import { unwrap } from '#core/fault/result.ts'
import { FAMILIES, type Ip } from '#core/ip/address.ts'
import { type Cidr, containsIp } from '#core/ip/cidr.ts'
import { Ipam } from '#core/ipam/ipam.ts'
import { type PerFamily } from '#core/plan/snapshot.ts'
import { type Endpoint, endpointKey } from './endpoints.ts'
import type { RememberedAddresses } from './node-state.ts'
import { perFamily } from './view.ts'

/**
 * Addresses of this node: its pod CIDRs' {@link Ipam}, made from what the endpoints file and the node's state say. Made
 * anew when the pod CIDRs change.
 */
export class NodeAddresses {
  #ipam: Ipam | undefined
  #podCidrs = ''
  #remembered: RememberedAddresses = { resting: [], next: [] }

  /** What {@link remembered} gave before a restart; for the next {@link use}. */
  remember(remembered: RememberedAddresses): void {
    this.#remembered = remembered
  }

  /** Undefined before the first {@link use}. */
  remembered(): RememberedAddresses | undefined {
    if (this.#ipam === undefined) return undefined
    const { resting, next } = this.#ipam.toJson()
    return { resting, next }
  }

  /**
   * The node's internal IPs: those of `before` where they still fit. Throws Fault `ipam.*`, e.g. when a running pod has
   * an address outside the pod CIDRs.
   */
  use(podCidrs: readonly Cidr[], before: readonly Ip[], endpoints: readonly Endpoint[], now: number): readonly Ip[] {
    if (this.#podCidrs !== podCidrs.join()) {
      const internal = perFamily(before.filter((ip) => podCidrs.some((cidr) => containsIp(cidr, ip))))
      const allocations = Object.fromEntries(
        endpoints.map((endpoint) => [endpointKey(endpoint), perFamily(endpoint.ips.map(({ ip }) => ip))]),
      )
      this.#ipam = unwrap(
        Ipam.fromJson(podCidrs, { internal, allocations, ...(this.remembered() ?? this.#remembered) }),
      )
      this.#podCidrs = podCidrs.join()
    }
    return list(unwrap(this.#need().reserveInternal(now)))
  }

  allocate(owner: string, now: number): readonly { readonly ip: Ip; readonly gateway: Ip }[] {
    const ipam = this.#need()
    const ips = unwrap(ipam.allocate(owner, now))
    return FAMILIES.flatMap((family) => {
      const [ip, gateway] = [ips[family], ipam.internalIps[family]]
      return ip === undefined || gateway === undefined ? [] : [{ ip, gateway }]
    })
  }

  release(owner: string, now: number): void {
    this.#ipam?.release(owner, now)
  }

  /** For status. */
  usage(): ReturnType<Ipam['usage']> {
    return this.#ipam?.usage() ?? []
  }

  #need(): Ipam {
    if (this.#ipam !== undefined) return this.#ipam
    throw new Fault('agent.not-ready', 'the pod CIDRs of this node are not known yet')
  }
}

function list(ips: PerFamily<Ip>): readonly Ip[] {
  return FAMILIES.flatMap((family) => ips[family] ?? [])
}
