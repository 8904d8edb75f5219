import { hostname } from 'node:os'
import { LEASES, type Lease } from '#core/api/resources.ts'
import type { KubeClient } from './client.ts'
import { hasCode } from './errors.ts'

export interface LeaderOptions {
  readonly namespace: string
  /** Of the Lease. */
  readonly name: string
  /** Different in every process; standard: host name, process id and a random part. */
  readonly identity?: string
  /** How long others wait for a holder that says nothing; standard 15 s. */
  readonly leaseMs?: number
  /** How long the holder tries to renew before it stops leading; standard 10 s. Must be less than leaseMs. */
  readonly renewDeadlineMs?: number
  /** Between two tries; standard 2 s. */
  readonly retryMs?: number
  readonly onFailure?: (error: unknown) => void
  /** Somebody else holds the lease (again). */
  readonly onFollow?: (holder: string) => void
}

/**
 * Runs `lead` whenever we hold the Lease, until `signal` is aborted; then gives the Lease back, so that another takes
 * over at once. `lead` gets a signal that is aborted when we lose the Lease: it must end then, and we apply again.
 *
 * As in client-go, only our own clock counts: a lease is dead when *we* have not seen it change for its duration, so
 * clocks of different nodes may differ, and be set; and the holder stops before others may begin.
 */
export async function runAsLeader(
  client: KubeClient,
  options: LeaderOptions,
  lead: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const election = new Election(client, options)
  while (!signal.aborted) {
    try {
      await election.acquire(signal)
    } catch (error) {
      if (signal.aborted) return
      throw error
    }
    const leading = new AbortController()
    const renewing = election.hold(AbortSignal.any([signal, leading.signal])).finally(() => leading.abort())
    try {
      await lead(AbortSignal.any([signal, leading.signal]))
    } catch (error) {
      // whoever was told to stop may say so by throwing
      if (!leading.signal.aborted && !signal.aborted) throw error
    } finally {
      leading.abort()
      await renewing
      await election.release()
    }
  }
}

class Election {
  readonly #client: KubeClient
  readonly #options: LeaderOptions
  readonly #identity: string
  readonly #leaseMs: number
  readonly #renewMs: number
  readonly #retryMs: number
  /** The lease as last seen, and when it last changed by our clock. */
  #seen: { readonly lease: Lease; readonly at: number } | undefined
  #holder = ''

  constructor(client: KubeClient, options: LeaderOptions) {
    this.#client = client
    this.#options = options
    this.#identity = options.identity ?? `${hostname()}_${process.pid}_${crypto.randomUUID().slice(0, 8)}`
    this.#leaseMs = options.leaseMs ?? 15_000
    this.#renewMs = options.renewDeadlineMs ?? 10_000
    this.#retryMs = options.retryMs ?? 2_000
    if (this.#renewMs >= this.#leaseMs) throw new TypeError('the renew deadline must be shorter than the lease')
  }

  async acquire(signal: AbortSignal): Promise<void> {
    while (!(await this.#try(signal))) await this.#pause(signal)
  }

  /** Resolves when we no longer hold it, or the signal is aborted. */
  async hold(signal: AbortSignal): Promise<void> {
    let renewed = this.#client.clock.steady()
    while (!signal.aborted) {
      let limit = signal
      try {
        await this.#pause(signal)
        // the call itself may not outlast the deadline either
        const left = renewed + this.#renewMs - this.#client.clock.steady()
        if (left <= 0) break
        limit = AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(left))])
        if (await this.#try(limit)) renewed = this.#client.clock.steady()
        else if (this.#holder !== '' && this.#holder !== this.#identity) break
      } catch (error) {
        // by the signal or by the deadline, and the loop sees which
        if (!limit.aborted) throw error
      }
      if (this.#client.clock.steady() - renewed >= this.#renewMs) break
    }
  }

  async release(): Promise<void> {
    const lease = this.#seen?.lease
    this.#seen = undefined
    if (lease === undefined || lease.spec?.holderIdentity !== this.#identity) return
    try {
      await this.#client.replace(
        LEASES,
        { ...lease, spec: { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1 } },
        { timeoutMs: 3000 },
      )
    } catch (error) {
      // it runs out by itself
      this.#options.onFailure?.(error)
    }
  }

  async #pause(signal: AbortSignal): Promise<void> {
    await this.#client.clock.sleep(this.#retryMs * (1 + this.#client.clock.random() / 5), signal)
  }

  /** True when we hold it now. Throws only when aborted. */
  async #try(signal: AbortSignal): Promise<boolean> {
    try {
      return await this.#takeOrRenew(signal)
    } catch (error) {
      signal.throwIfAborted()
      // somebody was faster: no failure
      if (!hasCode(error, 'kube.conflict') && !hasCode(error, 'kube.already-exists')) this.#options.onFailure?.(error)
      return false
    }
  }

  async #takeOrRenew(signal: AbortSignal): Promise<boolean> {
    const { namespace, name } = this.#options
    const scope = { namespace, signal, timeoutMs: 5000 }
    const now = microTime(this.#client.clock.now())
    const mine = {
      holderIdentity: this.#identity,
      leaseDurationSeconds: Math.ceil(this.#leaseMs / 1000),
      renewTime: now,
    }
    const lease = await this.#client.find(LEASES, name, scope)
    if (lease === undefined) {
      const spec = { ...mine, acquireTime: now, leaseTransitions: 0 }
      this.#see(await this.#client.create(LEASES, { metadata: { name, namespace }, spec }, scope))
      return true
    }
    this.#see(lease)
    const holder = lease.spec?.holderIdentity ?? ''
    const isOurs = holder === this.#identity
    if (!isOurs && holder !== '' && !this.#isDead(lease)) return false
    const spec = isOurs
      ? { ...lease.spec, ...mine }
      : { ...lease.spec, ...mine, acquireTime: now, leaseTransitions: (lease.spec?.leaseTransitions ?? 0) + 1 }
    // with its resourceVersion: of two that try, one gets a conflict
    this.#see(await this.#client.replace(LEASES, { ...lease, spec }, scope))
    return true
  }

  #see(lease: Lease): void {
    if (this.#seen?.lease.metadata.resourceVersion !== lease.metadata.resourceVersion) {
      this.#seen = { lease, at: this.#client.clock.steady() }
    }
    const holder = lease.spec?.holderIdentity ?? ''
    if (holder !== this.#holder && holder !== '' && holder !== this.#identity) this.#options.onFollow?.(holder)
    this.#holder = holder
  }

  #isDead(lease: Lease): boolean {
    const duration = (lease.spec?.leaseDurationSeconds ?? 0) * 1000
    return this.#seen !== undefined && this.#client.clock.steady() - this.#seen.at > duration
  }
}

/** metav1.MicroTime */
export function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z')
}
