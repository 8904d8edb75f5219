import type { Datapath } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import { WIREGUARD_DEVICE } from '#core/plan/names.ts'
import { type Plan, plan, type WireguardPlan } from '#core/plan/plan.ts'
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
  /** What the datapath has acknowledged; `none`: that there is no device. Undefined: to be asked. */
  #acknowledged: WireguardPlan | 'none' | undefined

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
    this.#acknowledged = undefined
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
    if (waitingFor.includes(WIREGUARD_DEVICE)) this.forget()
    const more = await this.#applyDatapath(made, waitingFor, privateKey)
    if (changes + more > 0) this.#log.info('the network of this node is as planned', { changes: changes + more })
    this.#applied = { snapshot, plan: made }
    return this.#applied
  }

  /** Asked only when its part of the plan is another one: a pod that comes or goes does not touch it. */
  async #applyDatapath(
    made: UsablePlan,
    waitingFor: readonly string[],
    privateKey: Uint8Array | undefined,
  ): Promise<number> {
    const { wireguard } = made
    if (wireguard === undefined) {
      if (this.#acknowledged === 'none') return 0
      const there = await this.#exists()
      if (there === true) await this.#datapath.remove(WIREGUARD_DEVICE)
      this.#acknowledged = there === undefined ? undefined : 'none'
      return 0
    }
    if (same(this.#acknowledged, wireguard)) return 0
    if (privateKey === undefined) {
      throw new Fault('key.missing', 'this node has no WireGuard key', {
        remedy: "See the agent's log for why the key file could not be made or read.",
      })
    }
    this.forget()
    await this.#datapath.apply({ ...wireguard, privateKey })
    this.#acknowledged = wireguard
    return waitingFor.includes(WIREGUARD_DEVICE) ? await this.#complete(made) : 0
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

/** The planner gives the same array of peers as long as none of them changed. */
function same(before: WireguardPlan | 'none' | undefined, now: WireguardPlan): boolean {
  if (before === undefined || before === 'none') return false
  const { name, listenPort, mark, mtu, peers } = now
  return (
    before.peers === peers &&
    before.name === name &&
    before.listenPort === listenPort &&
    before.mark === mark &&
    before.mtu === mtu
  )
}
