import type { Datapath } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import type { IpsecKey, KeyRef } from '#core/ipsec/key.ts'
import { withWayOfCarriers } from '#core/plan/carrier-way.ts'
import { IPSEC_DEVICE, WIREGUARD_DEVICE } from '#core/plan/names.ts'
import { type Plan, plan } from '#core/plan/plan.ts'
import type { Snapshot } from '#core/plan/snapshot.ts'
import type { Log } from '#io/telemetry/log.ts'
import type { HostNetwork } from './ports.ts'

export type UsablePlan = Extract<Plan, { usable: true }>

/** What is in force on this node. */
export interface Applied {
  readonly snapshot: Snapshot
  readonly plan: UsablePlan
}

/** What plans do not hold. */
export interface KeyMaterial {
  readonly privateKey: Uint8Array | undefined
  readonly ipsecKeys: readonly IpsecKey[]
}

/** Associations of IPsec; a field that is undefined leaves none out. */
export interface FlushFilter {
  /** Key id. */
  readonly spi: number | undefined
  readonly node: string | undefined
}

type DeviceName = typeof WIREGUARD_DEVICE | typeof IPSEC_DEVICE
type DevicePlan = NonNullable<UsablePlan['wireguard'] | UsablePlan['ipsec']>

/**
 * Applies plans: first all of the host's network that needs no device of the datapath's (what drops and what closes comes
 * first there), then the datapath, then what waited for its device. Removal is the other way round.
 */
export class Network {
  readonly #host: HostNetwork
  readonly #datapath: Datapath
  readonly #log: Log
  #applied: Applied | undefined
  /** What the datapath has acknowledged; `none`: that there is no device. Not there: to be asked. */
  readonly #acknowledged = new Map<DeviceName, DevicePlan | 'none'>()

  constructor(host: HostNetwork, datapath: Datapath, log: Log) {
    this.#host = host
    this.#datapath = datapath
    this.#log = log
  }

  /** Undefined until the first success. A later failure leaves it: the kernel goes on with it. */
  get applied(): Applied | undefined {
    return this.#applied
  }

  /** The next apply compares everything, also what nobody has reason to think has changed. */
  forget(): void {
    this.#acknowledged.clear()
  }

  /** Rejects with a Fault when anything is not as planned; what could be done is done, and nothing is opened. */
  async apply(snapshot: Snapshot, keys: KeyMaterial): Promise<Applied> {
    const made = plan(snapshot)
    if (!made.usable) {
      const [first] = made.problems
      const why = first === undefined ? {} : { field: first.object, remedy: first.remedy }
      throw new Fault(first?.code ?? 'plan.refused', first?.message ?? 'no plan can be made', why)
    }
    // a route before the tunnel that it leads to would lose packets; what closes is in force since the first time
    if (this.#applied?.plan.ipsec !== undefined && made.ipsec !== undefined) {
      const way = withWayOfCarriers(this.#applied.plan.host, made.host)
      if (way !== undefined) await this.#host.apply(way)
      // tried again, and told, when the host's part is done
      await this.#applyIpsec(made, keys).catch(() => undefined)
    }
    const { waitingFor, changes } = await this.#host.apply(made.host)
    for (const device of [WIREGUARD_DEVICE, IPSEC_DEVICE] as const) {
      if (waitingFor.includes(device)) this.#acknowledged.delete(device)
    }
    await this.#applyWireguard(made, keys)
    await this.#applyIpsec(made, keys)
    const more = await this.#complete(made, waitingFor)
    if (changes + more > 0) this.#log.info('the network of this node is as planned', { changes: changes + more })
    this.#applied = { snapshot, plan: made }
    return this.#applied
  }

  /** Asked only when its part of the plan is another one: a pod that comes or goes does not touch it. */
  async #applyWireguard({ wireguard }: UsablePlan, { privateKey }: KeyMaterial): Promise<void> {
    if (wireguard === undefined) return await this.#remove(WIREGUARD_DEVICE)
    if (same(this.#acknowledged.get(WIREGUARD_DEVICE), wireguard)) return
    if (privateKey === undefined) {
      throw new Fault('key.missing', 'this node has no WireGuard key', {
        remedy: "See the agent's log for why the key file could not be made or read.",
      })
    }
    this.#acknowledged.delete(WIREGUARD_DEVICE)
    await this.#datapath.apply({ ...wireguard, privateKey })
    this.#acknowledged.set(WIREGUARD_DEVICE, wireguard)
  }

  async #applyIpsec({ ipsec }: UsablePlan, { ipsecKeys }: KeyMaterial): Promise<void> {
    if (ipsec === undefined) return await this.#remove(IPSEC_DEVICE)
    if (same(this.#acknowledged.get(IPSEC_DEVICE), ipsec)) return
    this.#acknowledged.delete(IPSEC_DEVICE)
    await this.#datapath.applyIpsec({ ...ipsec, keys: ipsecKeys })
    this.#acknowledged.set(IPSEC_DEVICE, ipsec)
  }

  /** Removes those associations, until the next apply. How many there were. */
  async flush({ spi, node }: FlushFilter, keys: readonly IpsecKey[]): Promise<number> {
    const ipsec = this.#applied?.plan.ipsec
    if (ipsec === undefined) return 0
    const count = async () => (await this.#datapath.observeIpsec(ipsec.name))?.associations.length ?? 0
    const before = await count()
    const goes = (key: KeyRef | undefined) => spi === undefined || key?.id === spi
    const peers = ipsec.peers.map((peer) => {
      if (node !== undefined && peer.node !== node) return peer
      return {
        ...peer,
        receive: peer.receive.filter((key) => !goes(key)),
        send: goes(peer.send) ? undefined : peer.send,
      }
    })
    this.#acknowledged.delete(IPSEC_DEVICE)
    await this.#datapath.applyIpsec({ ...ipsec, peers, keys })
    return before - (await count())
  }

  async #remove(device: DeviceName): Promise<void> {
    if (this.#acknowledged.get(device) === 'none') return
    const there = await this.#exists(device)
    if (there === true) await this.#datapath.remove(device)
    if (there !== undefined) this.#acknowledged.set(device, 'none')
  }

  /** The host's part that waited for a device which is there now. */
  async #complete(made: UsablePlan, waitedFor: readonly string[]): Promise<number> {
    const devices = [made.wireguard?.name, made.ipsec?.name].filter((name) => name !== undefined)
    if (!devices.some((name) => waitedFor.includes(name))) return 0
    const { waitingFor, changes } = await this.#host.apply(made.host)
    const device = devices.find((name) => waitingFor.includes(name))
    if (device === undefined) return changes
    throw new Fault('datapath.device.missing', `the datapath has made ${device}, but the kernel has no such device`, {
      field: device,
      remedy: 'Is DaemonSet pellicle-keeper on the host network? Its log says what it opened.',
    })
  }

  /** Without encryption nobody needs the supervisor: that it is away then is no failure. */
  async #exists(device: DeviceName): Promise<boolean | undefined> {
    try {
      const datapath = this.#datapath
      const state = device === WIREGUARD_DEVICE ? await datapath.observe(device) : await datapath.observeIpsec(device)
      return state !== undefined
    } catch (error) {
      if (error instanceof Fault && error.code === 'datapath.supervisor.away') return undefined
      throw error
    }
  }
}

/** The planner gives the same array of peers as long as none of them changed. */
function same(before: DevicePlan | 'none' | undefined, now: DevicePlan): boolean {
  if (before === undefined || before === 'none' || before.peers !== now.peers) return false
  const values = (device: DevicePlan) => JSON.stringify({ ...device, peers: [] })
  return values(before) === values(now)
}
