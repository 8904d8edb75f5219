import type { Fault } from '#core/fault/fault.ts'
import { OUR_TABLE_PREFIX } from '#core/host/host-actual.ts'
import { type HostPlan, OUR_PROTOCOL } from '#core/host/host-plan.ts'
import { deviceOf } from '#core/host/host-step.ts'
import type { KernelEvent } from '#core/netlink/event.ts'
import type { XfrmEvent } from '#core/netlink/xfrm-event.ts'
import { HostKernel, type HostReport } from './host-kernel.ts'
import { KernelMonitor } from './kernel-monitor.ts'

/** Lets a burst of events (a device that goes takes its addresses and routes along) become one look. */
const GATHER_MS = 20
/** Between repairs when somebody else undoes each of them, and between attempts after failures: doubled up to this. */
const LONGEST_PAUSE_MS = 30_000
const FIRST_PAUSE_MS = 500
/** What has no event: kernel parameters. */
const LOOK_EVERY_MS = 60_000

export interface KeeperHandlers {
  /** After every look that was not asked for and that changed or failed something. */
  readonly repaired?: (report: HostReport) => void
  readonly fault?: (fault: Fault | Error) => void
  /** Events did not fit the socket's buffer: anything may have changed. */
  readonly lost?: () => void
  /** Of XFRM, anybody's; listened to only with this. */
  readonly xfrm?: (event: XfrmEvent) => void
}

export interface KeeperCounters {
  /** Steps that put back what somebody else had taken or changed. */
  restored: number
  /** Steps done because a device appeared that had been waited for. */
  completed: number
  /** Times that the kernel had more events than the socket's buffer holds. */
  lostEvents: number
  /** Looks at the kernel that nobody asked for. */
  looks: number
}

/**
 * Keeps a node's network at the last plan: applies it, and whenever the kernel tells of a change of something that is
 * ours, looks again and puts it back. A device that is waited for gets what stands on it as soon as it appears.
 */
export class HostKeeper {
  readonly kernel: HostKernel
  readonly counters: KeeperCounters = { restored: 0, completed: 0, lostEvents: 0, looks: 0 }
  readonly #monitor: KernelMonitor
  readonly #handlers: KeeperHandlers
  readonly #periodic: NodeJS.Timeout
  #plan: HostPlan | undefined
  #devices: ReadonlySet<string> = new Set()
  #waiting: ReadonlyMap<string, number> = new Map()
  #timer: NodeJS.Timeout | undefined
  #pause = 0

  /** @throws Fault `kernel.*` */
  constructor(handlers: KeeperHandlers = {}, options: { readonly nftLibrary?: string } = {}) {
    this.#handlers = handlers
    this.kernel = new HostKernel(options)
    try {
      this.#monitor = new KernelMonitor({
        event: (event) => this.#concerns(event) && this.#lookSoon(),
        table: (name) => name.startsWith(OUR_TABLE_PREFIX) && this.#lookSoon(),
        lost: () => {
          this.counters.lostEvents++
          handlers.lost?.()
          this.#lookSoon()
        },
        fault: (fault) => handlers.fault?.(fault),
        ...(handlers.xfrm === undefined ? {} : { xfrm: handlers.xfrm }),
      })
    } catch (error) {
      this.kernel.close()
      throw error
    }
    this.#periodic = setInterval(() => this.#look(), LOOK_EVERY_MS)
    this.#periodic.unref()
  }

  /**
   * Brings the network to `plan` and keeps it there. Failed steps are in the report, and tried again with growing pauses.
   * Throws only when the network could not even be read.
   */
  apply(plan: HostPlan): HostReport {
    this.#plan = plan
    this.#devices = devicesOf(plan)
    this.#pause = 0
    const report = this.kernel.apply(plan)
    this.#waiting = report.waiting
    if (report.failed.length > 0) this.#lookAfterPause()
    return report
  }

  /** The network stays as it is. */
  async close(): Promise<void> {
    this.#plan = undefined
    clearTimeout(this.#timer)
    clearInterval(this.#periodic)
    await this.#monitor.close()
    this.kernel.close()
  }

  #concerns(event: KernelEvent): boolean {
    // what this object did itself
    if (event.port !== 0 && event.port === this.kernel.socket.port) return false
    if (event.of === 'link') return this.#devices.has(event.value.name)
    // rare, and an address may be one that a route of ours prefers
    if (event.of === 'address' || event.of === 'fdb') return true
    return event.value.protocol === OUR_PROTOCOL
  }

  #lookSoon(): void {
    if (this.#plan === undefined || this.#timer !== undefined) return
    this.#timer = setTimeout(() => this.#look(), Math.max(GATHER_MS, this.#pause))
    this.#timer.unref()
  }

  #lookAfterPause(): void {
    this.#pause = Math.min(Math.max(this.#pause * 2, FIRST_PAUSE_MS), LONGEST_PAUSE_MS)
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#lookSoon()
  }

  #look(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#plan === undefined) return
    this.counters.looks++
    let report: HostReport
    try {
      report = this.kernel.apply(this.#plan)
    } catch (error) {
      this.#handlers.fault?.(error instanceof Error ? error : new Error(String(error)))
      return this.#lookAfterPause()
    }
    const expected = report.done.filter((step) => this.#waiting.has(deviceOf(step) ?? '')).length
    this.counters.completed += expected
    this.counters.restored += report.done.length - expected
    this.#waiting = report.waiting
    // somebody who undoes every repair gets slower and slower answers, and a quiet look ends that
    if (report.failed.length > 0) this.#lookAfterPause()
    else if (report.done.length === 0) this.#pause = 0
    else this.#pause = Math.min(Math.max(this.#pause * 2, GATHER_MS), LONGEST_PAUSE_MS)
    if (report.done.length > 0 || report.failed.length > 0) this.#handlers.repaired?.(report)
  }
}

function devicesOf(plan: HostPlan): Set<string> {
  const devices = new Set<string>()
  for (const link of plan.links) {
    devices.add(link.name)
    if (link.kind === 'veth') devices.add(link.peer)
  }
  for (const { device } of [...plan.routes, ...plan.neighbours, ...plan.addresses]) {
    if (device !== undefined) devices.add(device)
  }
  return devices
}
