import { Fault } from '#core/fault/fault.ts'
import { fail, ok, type Result } from '#core/fault/result.ts'
import { type Family, type Ip, ipFromValue, ipToValue, parseIp } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, containsIp, lengthOf, networkOf, sizeOf } from '#core/ip/cidr.ts'
import type { PerFamily } from '#core/plan/snapshot.ts'

/**
 * Addresses of this node's pods, and its own internal IPs, out of its pod CIDRs.
 *
 * An address that was given back rests for {@link REUSE_DELAY}, and the search goes round, so that what still flows to a
 * pod that is gone does not reach the next one. One address per family for each pod, or none at all.
 */
export class Ipam {
  readonly #pools: readonly Pool[]
  readonly #owners = new Map<string, PerFamily<Ip>>()
  #internal: PerFamily<Ip> = {}

  constructor(podCidrs: readonly Cidr[]) {
    this.#pools = podCidrs.map((cidr) => new Pool(cidr))
  }

  /** Families that pods get an address of. */
  get families(): readonly Family[] {
    return [...new Set(this.#pools.map((pool) => pool.family))].sort((a, b) => a - b)
  }

  get internalIps(): PerFamily<Ip> {
    return this.#internal
  }

  /** Takes the internal IPs once; later calls return the same. `now`: milliseconds. */
  reserveInternal(now: number): Result<PerFamily<Ip>, Fault> {
    if (this.families.every((family) => this.#internal[family] !== undefined)) return ok(this.#internal)
    const taken = this.#take(now, this.#internal)
    if (taken.ok) this.#internal = taken.value
    return taken
  }

  /** `owner`: container id and interface. The same owner gets the same addresses again (CNI ADD may be repeated). */
  allocate(owner: string, now: number): Result<PerFamily<Ip>, Fault> {
    const held = this.#owners.get(owner)
    if (held !== undefined) return ok(held)
    const taken = this.#take(now, {})
    if (taken.ok) this.#owners.set(owner, taken.value)
    return taken
  }

  /** What `owner` held; undefined when it held nothing, which is no error (CNI DEL may be repeated). */
  release(owner: string, now: number): PerFamily<Ip> | undefined {
    const held = this.#owners.get(owner)
    if (held === undefined) return undefined
    this.#owners.delete(owner)
    for (const ip of [held[4], held[6]]) if (ip !== undefined) this.#poolOf(ip)?.release(ip, now)
    return held
  }

  addressesOf(owner: string): PerFamily<Ip> | undefined {
    return this.#owners.get(owner)
  }

  /** For `status`: addresses in use (the internal ones too) and how many there are. */
  usage(): readonly { readonly cidr: Cidr; readonly used: number; readonly capacity: bigint }[] {
    return this.#pools.map((pool) => ({ cidr: pool.cidr, used: pool.used, capacity: pool.capacity }))
  }

  toJson(): IpamState {
    return {
      internal: this.#internal,
      allocations: Object.fromEntries(this.#owners),
      resting: this.#pools.flatMap((pool) => [...pool.resting].map(([ip, since]) => ({ ip, since }))),
      next: this.#pools.map((pool) => ({ cidr: pool.cidr, offset: String(pool.next) })),
    }
  }

  /**
   * From what was persisted. An address that is in none of the pod CIDRs any more, or held twice, is a fault that names
   * the owner: it would be given out again while a pod still has it.
   */
  static fromJson(podCidrs: readonly Cidr[], state: unknown): Result<Ipam, Fault> {
    const ipam = new Ipam(podCidrs)
    const broken = (what: string) =>
      fail(
        new Fault('ipam.state', `the persisted addresses do not fit: ${what}`, {
          field: 'endpoints.json',
          remedy: 'Remove the pods that are named (or drain the node), delete the file and restart the agent',
        }),
      )
    if (typeof state !== 'object' || state === null) return broken('no JSON object')
    const { internal = {}, allocations = {}, resting = [], next = [] } = state as Partial<IpamState>
    for (const [owner, ips] of [['the node itself', internal] as const, ...Object.entries(allocations)]) {
      const parsed: { [family in Family]?: Ip } = {}
      for (const text of Object.values(ips as Record<string, unknown>)) {
        const ip = typeof text === 'string' ? parseIp(text) : undefined
        if (ip === undefined) return broken(`${owner} holds "${String(text)}", which is no address`)
        const pool = ipam.#poolOf(ip)
        if (pool === undefined) return broken(`${owner} holds ${ip}, which is in none of ${podCidrs.join(', ')}`)
        if (!pool.hold(ip)) return broken(`${owner} holds ${ip}, which is reserved or held by another`)
        parsed[pool.family] = ip
      }
      if (ips === internal) ipam.#internal = parsed
      else ipam.#owners.set(owner, parsed)
    }
    for (const { ip, since } of resting) ipam.#poolOf(ip)?.resting.set(ip, since)
    for (const { cidr, offset } of next) {
      const pool = ipam.#pools.find((each) => each.cidr === cidr)
      if (pool !== undefined && /^[0-9]+$/.test(offset)) pool.next = BigInt(offset) % sizeOf(cidr)
    }
    return ok(ipam)
  }

  #take(now: number, had: PerFamily<Ip>): Result<PerFamily<Ip>, Fault> {
    const taken: { [family in Family]?: Ip } = { ...had }
    const fresh: Ip[] = []
    for (const family of this.families) {
      if (taken[family] !== undefined) continue
      const pools = this.#pools.filter((pool) => pool.family === family)
      let ip: Ip | undefined
      for (const pool of pools) ip ??= pool.take(now)
      if (ip === undefined) {
        for (const each of fresh) this.#poolOf(each)?.giveBack(each)
        return fail(usedUp(pools))
      }
      fresh.push(ip)
      taken[family] = ip
    }
    return ok(taken)
  }

  #poolOf(ip: Ip): Pool | undefined {
    return this.#pools.find((pool) => containsIp(pool.cidr, ip))
  }
}

/** What is persisted, as JSON. */
export interface IpamState {
  readonly internal: PerFamily<Ip>
  readonly allocations: Readonly<Record<string, PerFamily<Ip>>>
  /** Given back, with the time in milliseconds since the epoch. */
  readonly resting: readonly { readonly ip: Ip; readonly since: number }[]
  readonly next: readonly { readonly cidr: Cidr; readonly offset: string }[]
}

/** Milliseconds; longer than TCP's TIME_WAIT and a conntrack entry of UDP. */
export const REUSE_DELAY = 120_000

function usedUp(pools: readonly Pool[]): Fault {
  const resting = pools.reduce((sum, pool) => sum + pool.resting.size, 0)
  const cidrs = pools.map((pool) => pool.cidr).join(', ')
  const field = 'spec.podCIDR'
  if (resting > 0) {
    return new Fault('ipam.resting', `pod CIDR ${cidrs} has no address but ${resting} that were in use a moment ago`, {
      field,
      remedy: `The kubelet tries again by itself; they are free after ${REUSE_DELAY / 1000} s`,
    })
  }
  return new Fault('ipam.used-up', `pod CIDR ${cidrs} is used up`, {
    field,
    remedy: 'Delete pods of this node, lower its --max-pods, or give nodes larger pod CIDRs (--node-cidr-mask-size)',
  })
}

/** One prefix; offsets count from its network address. */
class Pool {
  readonly cidr: Cidr
  readonly family: Family
  readonly resting = new Map<Ip, number>()
  /** Where the search goes on. */
  next = 1n
  readonly #held = new Set<Ip>()
  readonly #network: bigint
  readonly #first: bigint
  readonly #last: bigint

  constructor(cidr: Cidr) {
    this.cidr = cidr
    this.family = cidrFamily(cidr)
    this.#network = ipToValue(networkOf(cidr))
    const size = sizeOf(cidr)
    const bits = this.family === 4 ? 32 : 128
    // RFC 3021 and RFC 6164: a pair or a single address has neither network nor broadcast address
    const small = lengthOf(cidr) >= bits - 1
    this.#first = small ? 0n : 1n
    this.#last = small || this.family === 6 ? size - 1n : size - 2n
    this.next = this.#first
  }

  get used(): number {
    return this.#held.size
  }

  get capacity(): bigint {
    return this.#last - this.#first + 1n
  }

  take(now: number): Ip | undefined {
    for (const [ip, since] of this.resting) if (now - since >= REUSE_DELAY || now < since) this.resting.delete(ip)
    // never longer than what is held or rests, and one more
    for (let tried = 0n; tried < this.capacity; tried++) {
      if (this.next > this.#last || this.next < this.#first) this.next = this.#first
      const ip = ipFromValue(this.family, this.#network + this.next++)
      if (this.#held.has(ip) || this.resting.has(ip)) continue
      this.#held.add(ip)
      return ip
    }
    return undefined
  }

  /** False when it is reserved or held already. */
  hold(ip: Ip): boolean {
    const offset = ipToValue(ip) - this.#network
    if (offset < this.#first || offset > this.#last || this.#held.has(ip)) return false
    this.#held.add(ip)
    return true
  }

  release(ip: Ip, now: number): void {
    if (this.#held.delete(ip)) this.resting.set(ip, now)
  }

  /** Nobody has used it: no rest. */
  giveBack(ip: Ip): void {
    this.#held.delete(ip)
  }
}
