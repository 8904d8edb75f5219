import { Fault } from '#core/fault/fault.ts'
import type { HostPlan } from '#core/host/host-plan.ts'
import type { Ip } from '#core/ip/address.ts'
import { HostKernel } from '#io/kernel/host-kernel.ts'
import type { HostNetwork, HostOutcome } from './ports.ts'

/** Nothing of ours at all. */
const NOTHING: HostPlan = {
  links: [],
  addresses: [],
  routes: [],
  rules: [],
  neighbours: [],
  fdb: [],
  tables: [],
  sysctls: [],
}

/** The node's own network by netlink. */
export class KernelHost implements HostNetwork {
  readonly #kernel: HostKernel

  constructor(kernel = new HostKernel()) {
    this.#kernel = kernel
  }

  async apply(plan: HostPlan): Promise<HostOutcome> {
    const report = this.#kernel.apply(plan)
    const faults = [...report.faults, ...report.failed.map(({ fault }) => fault)]
    if (faults.length > 0) throw combine(faults, report.skipped.length)
    return { changes: report.done.length, waitingFor: [...report.waiting.keys()] }
  }

  async underlay(ip: Ip): Promise<{ device: string; mtu: number } | undefined> {
    const { addresses, links } = this.#kernel.read(NOTHING)
    const device = addresses.find((address) => address.ip === ip)?.device
    const mtu = links.find(({ name }) => name === device)?.mtu
    return device === undefined || mtu === undefined ? undefined : { device, mtu }
  }

  async close(): Promise<void> {
    this.#kernel.close()
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
