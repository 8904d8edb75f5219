import type { Datapath } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import { WIREGUARD_DEVICE } from '#core/plan/names.ts'
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

/**
 * Applies plans: first all of the host's network that needs no device of the datapath's (what drops and what closes comes
 * first there), then the datapath, then what waited for its device. Removal is the other way round.
 */
export class Network {
  readonly #host: HostNetwork
  readonly #datapath: Datapath
  readonly #log: Log
  #applied: Applied | undefined

  constructor(host: HostNetwork, datapath: Datapath, log: Log) {
    this.#host = host
    this.#datapath = datapath
    this.#log = log
  }

  /** Undefined until the first success. A later failure leaves it: the kernel goes on with it. */
  get applied(): Applied | undefined {
    return this.#applied
  }

  /** Rejects with a Fault when anything is not as planned; what could be done is done, and nothing is opened. */
  async apply(snapshot: Snapshot, privateKey: Uint8Array | undefined): Promise<Applied> {
    const made = plan(snapshot)
    if (!made.usable) {
      const [first] = made.problems
      const why = first === undefined ? {} : { field: first.object, remedy: first.remedy }
      throw new Fault(first?.code ?? 'plan.refused', first?.message ?? 'no plan can be made', why)
    }
    const { waitingFor, changes } = await this.#host.apply(made.host)
    let more = 0
    if (made.wireguard !== undefined) {
      if (privateKey === undefined) {
        throw new Fault('key.missing', 'this node has no WireGuard key', {
          remedy: "See the agent's log for why the key file could not be made or read.",
        })
      }
      await this.#datapath.apply({ ...made.wireguard, privateKey })
      if (waitingFor.includes(WIREGUARD_DEVICE)) more = await this.#complete(made)
    } else if ((await this.#exists()) === true) await this.#datapath.remove(WIREGUARD_DEVICE)
    if (changes + more > 0) this.#log.info('the network of this node is as planned', { changes: changes + more })
    this.#applied = { snapshot, plan: made }
    return this.#applied
  }

  async #complete({ host }: UsablePlan): Promise<number> {
    const { waitingFor, changes } = await this.#host.apply(host)
    if (!waitingFor.includes(WIREGUARD_DEVICE)) return changes
    throw new Fault(
      'datapath.device.missing',
      `the datapath has made ${WIREGUARD_DEVICE}, but the kernel has no such device`,
      {
        field: WIREGUARD_DEVICE,
        remedy: 'Is DaemonSet pellicle-keeper on the host network? Its log says what it opened.',
      },
    )
  }

  /** Without encryption nobody needs the supervisor: that it is away then is no failure. */
  async #exists(): Promise<boolean | undefined> {
    try {
      return (await this.#datapath.observe(WIREGUARD_DEVICE)) !== undefined
    } catch (error) {
      if (error instanceof Fault && error.code === 'datapath.supervisor.away') return undefined
      throw error
    }
  }
}
