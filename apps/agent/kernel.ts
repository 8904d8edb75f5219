import { Fault } from '#core/fault/fault.ts'
import { EMPTY_HOST_PLAN, type HostPlan } from '#core/host/host-plan.ts'
import type { Ip } from '#core/ip/address.ts'
import { deleteLink, setLink } from '#core/netlink/link.ts'
import type { HostKernel, HostReport } from '#io/kernel/host-kernel.ts'
import { findLink } from '#io/kernel/link-table.ts'
import type { NetlinkSocket } from '#io/kernel/netlink-socket.ts'
import {
  addPodDevice,
  describePodDevices,
  listPodDevices,
  type PodDeviceSpec,
  type PodRoute,
  readPodDevice,
  removePodDevice,
} from '#io/kernel/pod-device.ts'
import type { HostNetwork, HostObservation, HostOutcome, HostUpkeep, PodDevice, PodDevices } from './ports.ts'

/** What brings a plan into the kernel: once ({@link HostKernel}), or keeping it there (`HostKeeper`). */
export interface PlanApplier {
  apply(plan: HostPlan): HostReport
  close(): void | Promise<void>
  readonly counters?: HostUpkeep
}

/** The node's own network by netlink. */
export class KernelHost implements HostNetwork {
  readonly #kernel: HostKernel
  readonly #applier: PlanApplier

  /** `applier`: standard is the kernel itself. */
  constructor(kernel: HostKernel, applier: PlanApplier = kernel) {
    this.#kernel = kernel
    this.#applier = applier
  }

  async apply(plan: HostPlan): Promise<HostOutcome> {
    const report = this.#applier.apply(plan)
    const faults = [...report.faults, ...report.failed.map(({ fault }) => fault)]
    if (faults.length > 0) throw combine(faults, report.skipped.length)
    return { changes: report.done.length, waitingFor: [...report.waiting.keys()] }
  }

  async underlay(ip: Ip): Promise<{ device: string; mtu: number } | undefined> {
    const { addresses, links } = this.#kernel.read(EMPTY_HOST_PLAN)
    const device = addresses.find((address) => address.ip === ip)?.device
    const mtu = links.find(({ name }) => name === device)?.mtu
    return device === undefined || mtu === undefined ? undefined : { device, mtu }
  }

  async observe(): Promise<HostObservation> {
    const { counters } = this.#applier
    return {
      drops: this.#kernel.tables.counters(),
      upkeep: counters === undefined ? undefined : { ...counters },
    }
  }

  async removeDevice(name: string): Promise<void> {
    const link = findLink(this.#kernel.socket, name)
    if (link !== undefined) this.#kernel.socket.request(`remove ${name}`, deleteLink(link.index))
  }

  async pathMtus(ends: readonly Ip[], mark: number): Promise<ReadonlyMap<Ip, number>> {
    const told = new Map<Ip, number>()
    for (const end of ends) {
      try {
        const mtu = this.#kernel.pathMtu(end, mark)
        if (mtu !== undefined) told.set(end, mtu)
      } catch {
        // no route to it: that is told by what does not answer
      }
    }
    return told
  }

  async close(): Promise<void> {
    await this.#applier.close()
  }
}

/** Pods' veth pairs by netlink, inside their namespaces too. */
export class KernelPods implements PodDevices {
  readonly #socket: NetlinkSocket

  /** `socket`: of the host's network namespace. */
  constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  async add(pod: PodDevice): Promise<void> {
    addPodDevice(this.#socket, specOf(pod))
  }

  async remove(device: string): Promise<void> {
    removePodDevice(this.#socket, device)
  }

  async list(): Promise<readonly string[]> {
    return listPodDevices(this.#socket)
  }

  async describe(): ReturnType<PodDevices['describe']> {
    return describePodDevices(this.#socket).map(({ hostName, ...rest }) => ({ device: hostName, ...rest }))
  }

  async check(pod: PodDevice): Promise<readonly string[]> {
    const wanted = specOf(pod)
    const there = readPodDevice(this.#socket, pod.netns, pod.ifname)
    if (there === undefined) return [`${pod.ifname} is missing in ${pod.netns}`]
    const wrong: string[] = []
    if (there.hostName !== pod.device) wrong.push(`${pod.ifname} is not the other end of ${pod.device}`)
    if (there.podMac !== pod.mac) wrong.push(`${pod.ifname} has the address ${there.podMac}, not ${pod.mac}`)
    if (!there.up) wrong.push(`${pod.ifname} is down`)
    for (const { ip, length } of wanted.addresses) {
      if (!there.addresses.some((one) => one.ip === ip && one.length === length)) {
        wrong.push(`${pod.ifname} lacks ${ip}/${length}`)
      }
    }
    for (const { destination, via } of wanted.routes) {
      if (!there.routes.some((one) => one.destination === destination && one.via === via)) {
        wrong.push(`the route ${destination}${via === undefined ? '' : ` via ${via}`} is missing`)
      }
    }
    return wrong
  }

  async setUp(devices: readonly string[], up: boolean): Promise<void> {
    for (const name of devices) {
      const link = findLink(this.#socket, name)
      if (link !== undefined && link.up !== up) {
        this.#socket.request(`bring ${name} ${up ? 'up' : 'down'}`, setLink(link.index, { up }))
      }
    }
  }
}

function specOf({ netns, owner, device, ifname, hostMac, mac, network }: PodDevice): PodDeviceSpec {
  const { mtu, gsoMaxSize, addresses, routes, neighbours } = network
  return {
    namespace: netns,
    owner,
    hostName: device,
    hostMac,
    podName: ifname,
    podMac: mac,
    mtu,
    ...(gsoMaxSize === undefined ? {} : { gsoMaxSize }),
    addresses,
    routes: routes.map(
      ({ destination, via, source, mtu: routeMtu }): PodRoute => ({
        destination,
        ...(via === undefined ? {} : { via }),
        ...(source === undefined ? {} : { source }),
        ...(routeMtu === undefined ? {} : { mtu: routeMtu }),
      }),
    ),
    neighbours,
  }
}

function combine(faults: readonly Fault[], skipped: number): Fault {
  const [first] = faults as [Fault, ...Fault[]]
  const more = faults.length === 1 ? '' : ` (and ${faults.length - 1} more)`
  const left = skipped === 0 ? '' : `; ${skipped} steps that depend on it were left out`
  return new Fault(first.code, `${first.message}${more}${left}`, {
    ...(first.field === undefined ? {} : { field: first.field }),
    ...(first.remedy === undefined ? {} : { remedy: first.remedy }),
    cause: first.cause,
  })
}
