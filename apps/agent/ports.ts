import type { HostPlan } from '#core/host/host-plan.ts'
import type { Ip } from '#core/ip/address.ts'
import type { Mac } from '#core/ip/mac.ts'
import type { PodNetwork } from '#core/plan/pod-network.ts'

/**
 * What the agent needs of the kernel, in its own words; `kernel.ts` speaks to io/kernel, tests bring fakes.
 */
export interface HostNetwork {
  /**
   * Brings the node's network to `plan`, applying only differences, in an order that never opens it. What a device is
   * missing for is left out and told. Rejects with a Fault that names the step.
   */
  apply(plan: HostPlan): Promise<HostOutcome>
  /** The device that carries `ip`; undefined when none does. */
  underlay(ip: Ip): Promise<{ readonly device: string; readonly mtu: number } | undefined>
  /** What the network's own counters say, and what had to be put back. */
  observe(): Promise<HostObservation>
  /** A device that nobody holds any more; nothing happens when there is none. */
  removeDevice(name: string): Promise<void>
  /** Bytes that the way of packets with that mark takes, by end; of those only of which the kernel was told something. */
  pathMtus(ends: readonly Ip[], mark: number): Promise<ReadonlyMap<Ip, number>>
  close(): Promise<void>
}

export interface HostObservation {
  /** Packets dropped, by the counter's name. */
  readonly drops: Readonly<Record<string, number>>
  /** Undefined: nobody keeps the plan in force between two applications. */
  readonly upkeep: HostUpkeep | undefined
}

/** Since this agent began. */
export interface HostUpkeep {
  /** Steps that put back what somebody else had taken or changed. */
  readonly restored: number
  /** Steps done because a device appeared that had been waited for. */
  readonly completed: number
  /** Times that the kernel told more than could be read: everything was looked at then. */
  readonly lostEvents: number
}

export interface HostOutcome {
  /** How many changes it took. */
  readonly changes: number
  /** Devices that are not there yet, made by somebody else. */
  readonly waitingFor: readonly string[]
}

export interface PodDevices {
  /** Makes the veth pair and everything inside the pod's namespace; the host's routes are the plan's. */
  add(pod: PodDevice): Promise<void>
  /** Done when the host's end is gone; the namespace may have vanished before. */
  remove(device: string): Promise<void>
  /** Names of the `lxc…` devices that exist. */
  list(): Promise<readonly string[]>
  /** What each `lxc…` device itself tells of its pod, for when nobody else remembers. */
  describe(): Promise<readonly { readonly device: string; readonly hostMac: Mac | undefined; readonly owner: string }[]>
  /** Sentences on what differs from what {@link add} made; empty when all is as it should be. */
  check(pod: PodDevice): Promise<readonly string[]>
  /** Takes the host's ends down or up: a pod keeps its device, but nothing passes. */
  setUp(devices: readonly string[], up: boolean): Promise<void>
}

export interface PodDevice {
  readonly netns: string
  /** What {@link PodDevices.describe} tells again. */
  readonly owner: string
  /** Host's end. */
  readonly device: string
  /** Pod's end. */
  readonly ifname: string
  readonly hostMac: Mac
  readonly mac: Mac
  /** What stands inside. */
  readonly network: PodNetwork
}
