import { KernelHost, KernelPods } from '#apps/agent/kernel.ts'
import type { HostNetwork, PodDevices } from '#apps/agent/ports.ts'
import { HostKernel } from '#io/kernel/host-kernel.ts'
import { inNetworkNamespace } from '#io/kernel/network-namespace.ts'

/**
 * The agent's adapters to the kernel, for a "node" that is a network namespace while the test stays in its own: each
 * call enters, does its (synchronous) work and comes back.
 */
export function namespacedHost(path: string): { host: HostNetwork; devices: PodDevices } {
  const inside = <T>(work: () => T): T => inNetworkNamespace(path, work)
  const { kernel, host } = inside(() => {
    const made = new HostKernel()
    return { kernel: made, host: new KernelHost(made) }
  })
  const pods = new KernelPods(kernel.socket)
  // an async function runs synchronously up to its first await, and these have none
  const run = <T>(work: () => Promise<T>): Promise<T> => inside(() => ({ promise: work() })).promise
  return {
    host: {
      apply: (plan) => run(() => host.apply(plan)),
      underlay: (ip) => run(() => host.underlay(ip)),
      observe: () => run(() => host.observe()),
      removeDevice: (name) => run(() => host.removeDevice(name)),
      pathMtus: (ends, mark) => run(() => host.pathMtus(ends, mark)),
      close: () => host.close(),
    },
    devices: {
      add: (pod) => run(() => pods.add(pod)),
      remove: (device) => run(() => pods.remove(device)),
      list: () => run(() => pods.list()),
      describe: () => run(() => pods.describe()),
      check: (pod) => run(() => pods.check(pod)),
      setUp: (devices, up) => run(() => pods.setUp(devices, up)),
    },
  }
}
