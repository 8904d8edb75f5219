import { Fault } from '#core/fault/fault.ts'
import { OUR_LINK_ALIAS } from '#core/host/host-actual.ts'
import { OUR_PROTOCOL, type RoutePlan } from '#core/host/host-plan.ts'
import {
  type CreatedLink,
  describeStep,
  deviceOf,
  type HostStep,
  type LinkChange,
  type Phase,
  phaseOf,
} from '#core/host/host-step.ts'
import { deleteAddress, newAddress } from '#core/netlink/address.ts'
import { ADDR_GEN_MODE_NONE, deleteLink, type LinkAttributes, newLink, setLink } from '#core/netlink/link.ts'
import type { NetlinkRequest } from '#core/netlink/message.ts'
import { deleteForwardingEntry, deleteNeighbour, setForwardingEntry, setNeighbour } from '#core/netlink/neighbour.ts'
import { deleteRoute, newRoute, type Route } from '#core/netlink/route.ts'
import { deleteRule, newRule } from '#core/netlink/rule.ts'
import { findLink, requireLink } from './link-table.ts'
import type { NetlinkSocket } from './netlink-socket.ts'
import type { NftTables } from './nft-tables.ts'
import { writeSysctl } from './sysctl.ts'

export interface ApplyReport {
  readonly done: readonly HostStep[]
  readonly failed: readonly { readonly step: HostStep; readonly fault: Fault }[]
  /** Not tried because something before them failed (see PHASES). */
  readonly skipped: readonly HostStep[]
}

/**
 * Takes the steps in their order. A step that fails never opens the network: what depends on it is skipped, and what
 * only closes goes on.
 */
export function applyHost(socket: NetlinkSocket, tables: NftTables, steps: readonly HostStep[]): ApplyReport {
  const report = { done: [] as HostStep[], failed: [] as { step: HostStep; fault: Fault }[], skipped: [] as HostStep[] }
  const runner = new StepRunner(socket, tables)
  const closed = () => !report.failed.some(({ step }) => phaseOf(step) === 'close')
  const broken = new Set<string>()
  const mayRun: Readonly<Record<Phase, (step: HostStep) => boolean>> = {
    prepare: () => true,
    close: () => true,
    receive: closed,
    open: (step) => closed() && !broken.has(deviceOf(step) ?? ''),
    withdraw: () => true,
    release: () => report.failed.length === 0,
  }

  for (const step of steps) {
    if (!mayRun[phaseOf(step)](step)) {
      report.skipped.push(step)
      continue
    }
    try {
      runner.run(step)
      report.done.push(step)
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      const fault = new Fault(error.code, `cannot ${describeStep(step)}`, {
        ...(error.field === undefined ? {} : { field: error.field }),
        ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
        cause: error,
      })
      report.failed.push({ step, fault })
      for (const device of devicesOf(step)) broken.add(device)
    }
  }
  return report
}

function devicesOf(step: HostStep): string[] {
  const device = deviceOf(step)
  const peer = step.do === 'create link' && step.link.kind === 'veth' ? [step.link.peer] : []
  return device === undefined ? peer : [device, ...peer]
}

/** What "already gone" looks like for each object. */
const GONE = new Set(['kernel.enoent', 'kernel.esrch', 'kernel.enodev', 'kernel.eaddrnotavail'])

class StepRunner {
  readonly #socket: NetlinkSocket
  readonly #tables: NftTables
  readonly #indexes = new Map<string, number>()

  constructor(socket: NetlinkSocket, tables: NftTables) {
    this.#socket = socket
    this.#tables = tables
  }

  run(step: HostStep): void {
    switch (step.do) {
      case 'set table':
        return this.#tables.set(step.table)
      case 'delete table':
        return this.#tables.delete(step.table)
      case 'create link':
        return this.#createLink(step.link, step.replaces)
      case 'set link':
        return this.#setLink(step.name, step.change)
      case 'delete link':
        return this.#deleteLink(step.name)
      case 'set sysctl':
        return writeSysctl(step.sysctl.path, step.sysctl.value)
      case 'add address':
        return this.#ask(newAddress({ ...step.address, index: this.#index(step.address.device) }))
      case 'delete address':
        return this.#remove(() => deleteAddress({ ...step.address, index: this.#index(step.address.device) }))
      case 'set neighbour': {
        const { device, ip, mac } = step.neighbour
        return this.#ask(setNeighbour({ ip, mac, index: this.#index(device), protocol: OUR_PROTOCOL }))
      }
      case 'delete neighbour': {
        const { device, ip } = step.neighbour
        return this.#remove(() => deleteNeighbour({ ip, index: this.#index(device) }))
      }
      case 'set fdb':
        return this.#ask(setForwardingEntry({ ...step.fdb, index: this.#index(step.fdb.device) }))
      case 'delete fdb':
        return this.#remove(() => deleteForwardingEntry({ ...step.fdb, index: this.#index(step.fdb.device) }))
      case 'set route':
        return this.#ask(newRoute(this.#route(step.route), step.replace ? 'replace' : 'create'))
      case 'delete route':
        return this.#remove(() => deleteRoute(this.#route(step.route)))
      case 'add rule':
        return this.#ask(newRule({ ...step.rule, protocol: OUR_PROTOCOL }))
      case 'delete rule':
        return this.#remove(() => deleteRule({ ...step.rule, protocol: OUR_PROTOCOL }))
    }
  }

  #ask(request: NetlinkRequest): void {
    this.#socket.request('the kernel refuses', request)
  }

  #remove(request: () => NetlinkRequest): void {
    try {
      this.#ask(request())
    } catch (error) {
      if (!(error instanceof Fault) || !GONE.has(error.code)) throw error
    }
  }

  #index(device: string): number {
    const index = this.#indexes.get(device) ?? requireLink(this.#socket, device).index
    this.#indexes.set(device, index)
    return index
  }

  #route({ device, ...route }: RoutePlan): Route {
    return { ...route, protocol: OUR_PROTOCOL, ...(device === undefined ? {} : { index: this.#index(device) }) }
  }

  #createLink(link: CreatedLink, replaces: readonly string[]): void {
    for (const name of replaces) this.#deleteLink(name)
    const { name, mtu, mac, gsoMaxSize } = link
    const common: LinkAttributes & { readonly name: string } = {
      name,
      mtu,
      ...(mac === undefined ? {} : { mac }),
      ...(gsoMaxSize === undefined ? {} : { gsoMaxSize }),
    }
    if (link.kind === 'veth') {
      this.#ask(newLink({ ...common, kind: 'veth', peer: { name: link.peer, mtu } }))
    } else {
      const { vni, port, local } = link
      this.#ask(newLink({ ...common, kind: 'vxlan', vxlan: { vni, port, local, learning: false } }))
    }
    // the kernel takes an alias and the IPv6 mode only of a link that exists; silent before up
    for (const end of link.kind === 'veth' ? [name, link.peer] : [name]) {
      this.#setLink(end, { alias: OUR_LINK_ALIAS, silent: true, up: true })
    }
  }

  #setLink(name: string, { silent, ...change }: LinkChange): void {
    const index = this.#index(name)
    if (silent === true) {
      try {
        // before it may come up
        this.#ask(setLink(index, { addrGenMode: ADDR_GEN_MODE_NONE }))
      } catch (error) {
        // no IPv6 on this machine or device: nothing to silence
        if (!(error instanceof Fault) || error.code !== 'kernel.eafnosupport') throw error
      }
    }
    this.#ask(setLink(index, change))
  }

  #deleteLink(name: string): void {
    this.#indexes.delete(name)
    const link = findLink(this.#socket, name)
    if (link !== undefined) this.#remove(() => deleteLink(link.index))
  }
}
