import { createHash } from 'node:crypto'
import { describeFault } from '#core/fault/fault.ts'
import { compareIp, type Ip } from '#core/ip/address.ts'
import { type Mac, macFromBytes } from '#core/ip/mac.ts'
import type { PodNetwork } from '#core/plan/pod-network.ts'
import type { Log } from '#io/telemetry/log.ts'
import { type Endpoint, type Endpoints, endpointKey } from '../endpoints.ts'
import type { PodDevice, PodDevices } from '../ports.ts'
import { type CniAnswer, CniError, NOT_AS_MADE, NOT_AVAILABLE, TRY_AGAIN } from './error.ts'
import { formatOwner, parseOwner } from './owner.ts'
import type { CniRequest } from './request.ts'
import { addResult } from './result.ts'

/** What pods on this node get; undefined until the agent knows its pod CIDR and its underlay. */
export interface PodSettings {
  /** One address for each family in use; the same again for the same owner. Throws Fault `ipam.*`. */
  allocate(owner: string): readonly { readonly ip: Ip; readonly gateway: Ip }[]
  /** What stands inside such a pod. */
  network(endpoint: Endpoint): PodNetwork
}

export interface PodsDeps {
  readonly endpoints: Endpoints
  readonly devices: PodDevices
  readonly log: Log
  settings(): PodSettings | undefined
  /** Gives back what an owner was allocated; nothing when that is nothing. */
  release(owner: string): void
  /** Why the agent cannot serve now; undefined when it can. */
  notReady(): string | undefined
  /** Resolves when the node's network is programmed with the endpoints as they are now. */
  programmed(): Promise<void>
  /** True when the network namespace at that path still exists. */
  namespaceExists(netns: string): Promise<boolean>
}

/**
 * The commands of CNI on this node's pods. Calls for the same container and device run one after the other, all others
 * beside each other.
 */
export class Pods {
  readonly #deps: PodsDeps
  readonly #queues = new Map<string, Promise<unknown>>()

  constructor(deps: PodsDeps) {
    this.#deps = deps
  }

  /** Returns what the executable prints; null where CNI expects nothing. */
  async handle(request: CniRequest): Promise<CniAnswer['output']> {
    switch (request.command) {
      case 'ADD':
        return await this.#serial(request, () => this.#add(request))
      case 'DEL':
        await this.#serial(request, () => this.remove(request.containerId, request.ifname))
        return null
      case 'CHECK':
        await this.#serial(request, () => this.#check(request))
        return null
      case 'GC':
        await this.#collect(request)
        return null
      case 'STATUS':
        this.#status()
        return null
      case 'VERSION':
        break
    }
    throw new CniError(4, 'VERSION is answered by the executable itself')
  }

  /** DEL: any number of times, whatever is left of the pod. */
  async remove(containerId: string, ifname: string): Promise<void> {
    const { endpoints, devices, log } = this.#deps
    const endpoint = endpoints.get(containerId, ifname)
    // after a lost endpoints file the device's name still tells whose it was
    await devices.remove(endpoint?.device ?? deviceName(containerId, ifname))
    if (endpoint !== undefined) await endpoints.remove([endpoint])
    // also for an ADD that a full disk kept from being remembered: nothing else knows of its address
    this.#deps.release(endpointKey({ containerId, ifname }))
    if (endpoint === undefined) return
    log.info('pod has left', { pod: endpoint.pod, device: endpoint.device })
    // addresses may be given away again at once: whatever still routes to the old device is replaced by then
    this.#deps.programmed().catch((error: unknown) => {
      log.warn(`routes of a pod that left are still there: ${describeFault(error)}`, { device: endpoint.device })
    })
  }

  /**
   * Gives back what no pod has any more: endpoints whose device and namespace are both gone, devices that no endpoint
   * names and that do not say themselves whose they are (the file may have been lost while pods ran on). Done at start, before the first ADD.
   */
  async reclaim(): Promise<void> {
    const { endpoints, devices, log } = this.#deps
    const present = new Set(await devices.list())
    const lost: Endpoint[] = []
    for (const endpoint of endpoints.all()) {
      if (present.has(endpoint.device)) continue
      // never made, or its namespace (which takes the pair with it) is gone
      if (!endpoint.ready || !(await this.#deps.namespaceExists(endpoint.netns))) lost.push(endpoint)
      else log.warn('a running pod has lost its network device', remedyFields(endpoint))
    }
    if (lost.length > 0) {
      await endpoints.remove(lost)
      for (const endpoint of lost) this.#deps.release(endpointKey(endpoint))
      log.info('addresses of pods that are gone are free again', { count: lost.length })
    }
    const known = new Set(endpoints.all().map(({ device }) => device))
    for (const { device, hostMac, owner } of await devices.describe()) {
      if (known.has(device)) continue
      const adopted = hostMac === undefined ? undefined : parseOwner(owner, device, hostMac)
      if (adopted !== undefined && device === deviceName(adopted.containerId, adopted.ifname)) {
        log.warn('a pod that nobody remembered is known again by its device', {
          device,
          container: adopted.containerId,
        })
        await endpoints.put(adopted)
        continue
      }
      log.warn('a pod device that belongs to no known pod is removed', { device })
      await devices.remove(device)
    }
  }

  #status(): void {
    const reason = this.#deps.notReady()
    if (reason !== undefined) throw new CniError(NOT_AVAILABLE, `pods cannot get a network now: ${reason}`)
  }

  async #add(request: CniRequest): Promise<Record<string, unknown>> {
    const { endpoints, devices, log } = this.#deps
    const settings = this.#deps.settings()
    const reason = this.#deps.notReady()
    if (settings === undefined || reason !== undefined) {
      throw new CniError(TRY_AGAIN, `the agent cannot serve pods yet: ${reason ?? 'it does not know its node yet'}`)
    }
    const { containerId, ifname, netns, config } = request
    const found = endpoints.get(containerId, ifname)
    // of a pod that is known by its device alone, the path is said here again
    const before = found?.netns === '' ? { ...found, netns } : found
    if (before?.ready === true) {
      if (before.netns === netns && (await devices.check(podDevice(before, settings))).length === 0) {
        return addResult(before, netns, settings.network(before).mtu, config.cniVersion)
      }
      if (before.netns !== netns && (await devices.list()).includes(before.device)) {
        const message = `container ${containerId} already has ${ifname}, in another network namespace`
        throw new CniError(4, message, 'DEL comes before a second ADD')
      }
    }
    // left by an ADD that did not come to its end
    if (before !== undefined) await this.remove(containerId, ifname)
    const endpoint = this.#choose(request, settings)
    try {
      await endpoints.put(endpoint)
      await devices.add(podDevice(endpoint, settings))
      await endpoints.put({ ...endpoint, ready: true })
      await this.#deps.programmed()
    } catch (error) {
      await this.#undo(endpoint)
      throw error
    }
    log.info('pod has joined', {
      pod: endpoint.pod,
      device: endpoint.device,
      ips: endpoint.ips.map(({ ip }) => ip).join(),
    })
    return addResult(endpoint, netns, settings.network(endpoint).mtu, config.cniVersion)
  }

  #choose(request: CniRequest, settings: PodSettings): Endpoint {
    const ips = settings.allocate(endpointKey(request))
    const { containerId, ifname, netns, args } = request
    const device = deviceName(containerId, ifname)
    const name = args['K8S_POD_NAME'] ?? ''
    return {
      containerId,
      ifname,
      netns,
      device,
      mac: macFor(`pod ${device}`),
      hostMac: macFor(`host ${device}`),
      ips: [...ips].sort((a, b) => compareIp(a.ip, b.ip)),
      pod: name === '' ? '' : `${args['K8S_POD_NAMESPACE'] ?? ''}/${name}`,
      ready: false,
    }
  }

  async #undo(endpoint: Endpoint): Promise<void> {
    try {
      const { endpoints, devices } = this.#deps
      await devices.remove(endpoint.device)
      // what was never written need not be written off, which a full disk would refuse as well
      const written = endpoints.get(endpoint.containerId, endpoint.ifname)
      if (written !== undefined) await endpoints.remove([written])
      this.#deps.release(endpointKey(endpoint))
    } catch (error) {
      // what is left here is given back by the next DEL, GC or start
      this.#deps.log.warn(`the traces of a failed ADD are still there: ${describeFault(error)}`, {
        pod: endpoint.pod,
        device: endpoint.device,
      })
    }
  }

  async #check(request: CniRequest): Promise<void> {
    const settings = this.#deps.settings()
    if (settings === undefined) throw new CniError(TRY_AGAIN, 'the agent does not know its node yet')
    const endpoint = this.#deps.endpoints.get(request.containerId, request.ifname)
    if (endpoint === undefined)
      throw new CniError(3, `container ${request.containerId} has no ${request.ifname} of ours`)
    const wrong = await this.#deps.devices.check(podDevice({ ...endpoint, netns: request.netns }, settings))
    const differs = [...wrong, ...resultDiffers(request.config.prevResult, endpoint)]
    if (differs.length > 0) throw new CniError(NOT_AS_MADE, `not as it was made: ${differs.join('; ')}`)
  }

  async #collect(request: CniRequest): Promise<void> {
    const valid = request.config.validAttachments
    if (valid === undefined) throw new CniError(7, 'GC without cni.dev/valid-attachments')
    const keep = new Set(valid.map(({ containerID, ifname }) => `${containerID}/${ifname}`))
    const failures: unknown[] = []
    for (const { containerId, ifname } of this.#deps.endpoints.all()) {
      const key = endpointKey({ containerId, ifname })
      if (keep.has(key) || this.#queues.has(key)) continue
      await this.#serial({ containerId, ifname }, () => this.remove(containerId, ifname)).catch((e) => failures.push(e))
    }
    if (failures.length > 0) throw failures[0]
  }

  #serial<T>(of: { containerId: string; ifname: string }, work: () => Promise<T>): Promise<T> {
    const key = endpointKey(of)
    const before = this.#queues.get(key) ?? Promise.resolve()
    const mine = before.then(work, work)
    const settled = mine.catch(() => undefined)
    this.#queues.set(key, settled)
    void settled.then(() => {
      if (this.#queues.get(key) === settled) this.#queues.delete(key)
    })
    return mine
  }
}

/** `lxc` and 12 hex digits: the same for the same container and device, so that a lost file loses no device. */
export function deviceName(containerId: string, ifname: string): string {
  return `lxc${digest(`${containerId}/${ifname}`).toString('hex').slice(0, 12)}`
}

function podDevice(endpoint: Endpoint, settings: Pick<PodSettings, 'network'>): PodDevice {
  const { netns, device, ifname, hostMac, mac } = endpoint
  return { netns, owner: formatOwner(endpoint), device, ifname, hostMac, mac, network: settings.network(endpoint) }
}

/** Locally administered, unicast. */
function macFor(text: string): Mac {
  const bytes = digest(text).subarray(0, 6)
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02
  return macFromBytes(bytes)
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

function resultDiffers(previous: unknown, endpoint: Endpoint): string[] {
  const ips = (previous as { ips?: { address?: string }[] } | null | undefined)?.ips
  if (!Array.isArray(ips)) return []
  const said = ips.map(({ address }) => (address ?? '').replace(/\/.*/, ''))
  return endpoint.ips.filter(({ ip }) => !said.includes(ip)).map(({ ip }) => `prevResult lacks ${ip}`)
}

function remedyFields(endpoint: Endpoint): Record<string, unknown> {
  return { pod: endpoint.pod, device: endpoint.device, remedy: 'delete the pod: its replacement gets a new device' }
}
