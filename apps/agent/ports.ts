import type { HostPlan } from '#core/host/host-plan.ts'
import type { Ip } from '#core/ip/address.ts'
import type { Mac } from '#core/ip/mac.ts'

/**
 * What the agent needs of the kernel, in its own words; `kernel.ts` speaks to io/kernel, tests bring fakes.
 */
export interface HostNetwork {
  /**
   * Brings the node's network to `plan`, applying only differences. Returns how many changes that took.
   * Rejects with a Fault that names the step; nothing that was closed is opened by a failure.
   */
  apply(plan: HostPlan): Promise<number>
  /** Removes everything that is ours (an empty plan leaves nothing). */
  clear(): Promise<void>
  /** MTU of the device that carries `ip`; undefined when no device does. */
  mtuOf(ip: Ip): Promise<number | undefined>
  close(): Promise<void>
}

export interface PodDevices {
  /** Makes the veth pair and everything inside the pod's namespace; the host's routes are the plan's. */
  add(pod: PodDevice): Promise<void>
  /** Done when the host's end is gone; the namespace may have vanished before. */
  remove(device: string): Promise<void>
  /** Names of the `lxc…` devices that exist. */
  list(): Promise<readonly string[]>
  /** Sentences on what differs from what {@link add} made; empty when all is as it should be. */
  check(pod: PodDevice): Promise<readonly string[]>
}

export interface PodDevice {
  readonly netns: string
  /** Host's end. */
  readonly device: string
  /** Pod's end. */
  readonly ifname: string
  readonly hostMac: Mac
  readonly mac: Mac
  readonly mtu: number
  readonly gsoMaxSize: number
  /** Gateways are this node's internal IPs; reached by the host's end of the pair. */
  readonly ips: readonly { readonly ip: Ip; readonly gateway: Ip }[]
}
