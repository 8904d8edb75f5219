import type { Fault } from '#core/fault/fault.ts'
import { unwrap } from '#core/fault/result.ts'
import { diffHost } from '#core/host/diff-host.ts'
import type { HostActual } from '#core/host/host-actual.ts'
import type { HostPlan } from '#core/host/host-plan.ts'
import type { Ip } from '#core/ip/address.ts'
import { askRoute, decodeRoute } from '#core/netlink/route.ts'
import { RTM_NEWROUTE } from '#core/netlink/rtnetlink.ts'
import { type ApplyReport, applyHost } from './apply-host.ts'
import { NetlinkSocket } from './netlink-socket.ts'
import { NftTables } from './nft-tables.ts'
import { readHost } from './read-host.ts'

export interface HostReport extends ApplyReport {
  /** Devices that are not there yet, with how many objects wait for each. Not a failure. */
  readonly waiting: ReadonlyMap<string, number>
  /** What cannot be done at all, e.g. `host.link.taken`. */
  readonly faults: readonly Fault[]
}

/**
 * A node's own network, in the network namespace that the calling thread was in when this was made. Synchronous: see
 * {@link NetlinkSocket}. Needs CAP_NET_ADMIN; `HostKeeper` keeps a plan applied.
 */
export class HostKernel {
  readonly socket: NetlinkSocket
  readonly tables: NftTables

  /** @throws Fault `kernel.*` */
  constructor(options: { readonly nftLibrary?: string } = {}) {
    this.socket = new NetlinkSocket()
    this.tables = new NftTables(options.nftLibrary)
  }

  /** What is there, as far as the plan and our own marks reach. */
  read(plan: HostPlan): HostActual {
    return readHost(this.socket, this.tables, plan)
  }

  /** Brings the network to `plan` by the steps of {@link diffHost}. Throws only when it could not even be read. */
  apply(plan: HostPlan): HostReport {
    const { steps, waiting, faults } = diffHost(plan, this.read(plan))
    return { ...applyHost(this.socket, this.tables, steps), waiting, faults }
  }

  /**
   * Bytes that the way of packets with that mark to `destination` takes, where the kernel has been told of fewer than its
   * first device does, or the route says so. For ten minutes after it was told (`net.ipv4.route.mtu_expires`), and whoever
   * is on the way can tell it anything.
   */
  pathMtu(destination: Ip, mark: number): number | undefined {
    const answers = this.socket.request(`ask for the route to ${destination}`, askRoute(destination, mark))
    const routes = answers.filter(({ type }) => type === RTM_NEWROUTE).map((answer) => unwrap(decodeRoute(answer)))
    return routes[0]?.mtu
  }

  close(): void {
    this.socket.close()
    this.tables.close()
  }
}
