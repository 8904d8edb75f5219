import { type NodePool, poolNames } from '#core/api/pool.ts'
import { Fault } from '#core/fault/fault.ts'
import { FAMILIES, type Family, familyOf, type Ip, ipToValue } from '#core/ip/address.ts'
import {
  type Cidr,
  cidrFamily,
  cidrOf,
  containsCidr,
  containsIp,
  lengthOf,
  networkOf,
  parseCidr,
} from '#core/ip/cidr.ts'
import { type PerFamily } from '#core/plan/snapshot.ts'
import { rangeOf, TakenRanges } from './ranges.ts'

/** A CiliumNode, as far as allocation goes by it. */
export interface PoolNode {
  readonly name: string
  /** `metadata.creationTimestamp`: of two that hold the same addresses the older one is right. */
  readonly since: string
  /** `spec.ipam.podCIDRs`, as it stands there. */
  readonly podCidrs: readonly string[]
  /** Kubernetes has a Node of that name: what is left over keeps what it holds until it is deleted, and gets nothing. */
  readonly exists: boolean
  /** What its agent keeps from leaving by the default route; undefined: it has never run, and its pods neither. */
  readonly guards?: readonly Cidr[] | undefined
}

export interface Allotment {
  /** All that is to stand in `spec.ipam.podCIDRs`; undefined: what stands there stays. */
  readonly podCidrs: readonly Cidr[] | undefined
  /** What is wrong: nothing, or not everything, was given. Code `ipam.pool.*`. */
  readonly fault: Fault | undefined
}

export interface PoolUsage {
  readonly family: Family
  /** Prefixes of the mask's size that are taken, or of which a part is. */
  readonly used: bigint
  readonly capacity: bigint
}

/** Of nodes that are gone: a node that comes back with its pods still running gets what they have addresses of. */
const MOST_REMEMBERED = 4096

/**
 * IPAM mode `cluster-pool`: which node gets which pod CIDRs. The CiliumNodes themselves are the memory: a new object knows
 * by them what is given, whoever gave it. In its own memory it keeps what it has given and not seen written yet, and how
 * far the search has gone: it goes round, so that what was given back rests as long as there is something else.
 *
 * Nothing that a node holds is ever taken away, whatever is wrong with it. Nothing is given out of a prefix that was added
 * to the pool before all nodes guard it: to one that does not, what goes there would leave by the default route, in clear.
 */
export class ClusterPool {
  readonly #pools: PerFamily<NodePool>
  readonly #families: readonly Family[]
  readonly #next = new Map<Cidr, bigint>()
  /** By name, what was given to nodes that do not show it yet: it may stand there already. */
  readonly #promised = new Map<string, readonly Cidr[]>()
  /** By name, what each node held when it was seen last; those that were not seen for the longest time come first. */
  readonly #last = new Map<string, readonly Cidr[]>()
  /** Names of {@link keepFor} that have not come yet. */
  readonly #kept = new Set<string>()
  #usage: readonly PoolUsage[] = []
  /** By prefix of the pools, the nodes that do not guard it yet. */
  #unguarded: ReadonlyMap<Cidr, readonly string[]> = new Map()

  /** Of each family that pods are to have; judged already (core/api/config.ts). */
  constructor(pools: PerFamily<NodePool>) {
    this.#pools = pools
    this.#families = FAMILIES.filter((family) => pools[family] !== undefined)
  }

  /**
   * Addresses of pods that run on nodes of the cluster, by node: where a CiliumNode was lost (by an installation anew) the node
   * gets what they have addresses of, and no other does.
   */
  keepFor(pods: ReadonlyMap<string, readonly Ip[]>): void {
    for (const [name, ips] of pods) {
      if (this.#last.has(name)) continue
      const blocks = ips.flatMap((ip) => {
        const pool = this.#pools[familyOf(ip)]
        return pool?.cidrs.some((cidr) => containsIp(cidr, ip)) === true ? [cidrOf(ip, pool.maskSize)] : []
      })
      if (blocks.length === 0) continue
      this.#last.set(name, [...new Set(blocks)])
      this.#kept.add(name)
    }
  }

  /**
   * `nodes`: all CiliumNodes there are; every one has an answer. `isThere`: Kubernetes has a Node of that name; what was kept for
   * one that is gone is free.
   */
  allot(nodes: readonly PoolNode[], isThere: (name: string) => boolean = () => true): ReadonlyMap<string, Allotment> {
    for (const name of this.#kept) if (!isThere(name)) this.#kept.delete(name)
    const held = nodes.map((node) => ({ node, ...read(node) })).sort((a, b) => byAge(a.node, b.node))
    this.#see(held)
    const all = [...held.flatMap(({ cidrs }) => cidrs), ...[...this.#promised.values()].flat()]
    const taken = { 4: ofFamily(all, 4), 6: ofFamily(all, 6) }
    const kept = [...this.#kept].flatMap((name) => this.#last.get(name) ?? [])
    const notFree = { 4: ofFamily([...all, ...kept], 4), 6: ofFamily([...all, ...kept], 6) }
    const overlapping = overlapsOf(held)
    this.#unguarded = unguardedOf(this.#pools, nodes)
    const result = new Map<string, Allotment>()
    for (const { node, cidrs, malformed } of held) {
      const { name } = node
      const fault = malformed ?? overlapping.get(name) ?? this.#outside(name, cidrs)
      const missing = this.#missing(cidrs)
      const fresh =
        malformed !== undefined || missing.length === 0 || !node.exists ? [] : this.#give(name, missing, taken, notFree)
      if (fresh instanceof Fault) result.set(name, { podCidrs: undefined, fault: fresh })
      else result.set(name, { podCidrs: fresh.length === 0 ? undefined : [...cidrs, ...fresh], fault })
    }
    this.#usage = this.#families.map((family) => this.#usageOf(family, taken[family]))
    return result
  }

  /** After the last {@link allot}. */
  get usage(): readonly PoolUsage[] {
    return this.#usage
  }

  #see(held: readonly Held[]): void {
    const present = new Map(held.map(({ node, cidrs }) => [node.name, cidrs]))
    for (const [name, promised] of this.#promised) {
      const cidrs = present.get(name)
      const open = promised.filter((cidr) => cidrs !== undefined && this.#missing(cidrs).includes(cidrFamily(cidr)))
      if (open.length === 0) this.#promised.delete(name)
      else this.#promised.set(name, open)
    }
    for (const [name, cidrs] of present) {
      if (cidrs.length === 0) continue
      this.#kept.delete(name)
      this.#last.delete(name)
      this.#last.set(name, cidrs)
    }
    for (const oldest of this.#last.keys()) {
      if (this.#last.size <= Math.max(MOST_REMEMBERED, present.size)) break
      this.#last.delete(oldest)
    }
  }

  /** One of each family, or none at all: an agent waits for all. */
  #give(
    name: string,
    families: readonly Family[],
    taken: Record<Family, TakenRanges>,
    notFree: Record<Family, TakenRanges>,
  ): readonly Cidr[] | Fault {
    const promised = this.#promised.get(name) ?? []
    const fresh: Cidr[] = []
    for (const family of families) {
      const { cidrs } = this.#pools[family] as NodePool
      const of = (each: Cidr) => cidrFamily(each) === family
      const before = this.#last
        .get(name)
        ?.find((each) => of(each) && within(cidrs, each) && !taken[family].overlaps(each))
      const cidr = promised.find(of) ?? before ?? this.#search(family, notFree[family])
      if (cidr === undefined) return this.#nothingLeft(name, family)
      fresh.push(cidr)
    }
    for (const cidr of fresh) {
      if (promised.includes(cidr)) continue
      const family = cidrFamily(cidr)
      taken[family].add(cidr)
      if (!notFree[family].overlaps(cidr)) notFree[family].add(cidr)
      const pool = this.#pools[family]?.cidrs.find((outer) => containsCidr(outer, cidr))
      if (pool !== undefined) this.#next.set(pool, rangeOf(cidr).end)
    }
    this.#promised.set(name, fresh)
    return fresh
  }

  #search(family: Family, search: TakenRanges): Cidr | undefined {
    const { cidrs, maskSize } = this.#pools[family] as NodePool
    for (const pool of cidrs.filter((each) => !this.#unguarded.has(each))) {
      const from = this.#next.get(pool) ?? search.lastEnd(rangeOf(pool)) ?? ipToValue(networkOf(pool))
      const found = search.free(pool, maskSize, from)
      if (found !== undefined) return found
    }
    return undefined
  }

  #nothingLeft(name: string, family: Family): Fault {
    const { cidrs, maskSize } = this.#pools[family] as NodePool
    const { key, value } = poolNames(family)
    const waits = cidrs.find((each) => this.#unguarded.has(each))
    if (waits !== undefined) {
      const nodes = this.#unguarded.get(waits) ?? []
      const some = nodes.slice(0, 3).join(', ') + (nodes.length > 3 ? ` and ${nodes.length - 3} more` : '')
      return new Fault(
        'ipam.pool.not-guarded',
        `node ${name} waits for ${waits} (${key}): nodes ${some} do not keep what goes there from leaving in clear yet`,
        {
          field: key,
          remedy: 'They do as soon as their agents run with this configuration; delete Nodes that are gone',
        },
      )
    }
    return new Fault(
      'ipam.pool.used-up',
      `the pool ${cidrs.join(' ')} (${key}) is used up: it has no /${maskSize} left for node ${name}`,
      {
        field: key,
        remedy: `Add a prefix to ${value} and leave those that stand there, or delete Nodes that are gone`,
      },
    )
  }

  #missing(cidrs: readonly Cidr[]): readonly Family[] {
    return this.#families.filter((family) => !cidrs.some((cidr) => cidrFamily(cidr) === family))
  }

  #outside(name: string, cidrs: readonly Cidr[]): Fault | undefined {
    for (const cidr of cidrs) {
      const family = cidrFamily(cidr)
      const pool = this.#pools[family]
      if (pool === undefined || within(pool.cidrs, cidr)) continue
      return new Fault(
        'ipam.pool.outside',
        `pod CIDR ${cidr} of node ${name} is in no prefix of the pool: ${poolNames(family).key} is ${pool.cidrs.join(' ')}`,
        {
          field: poolNames(family).key,
          remedy: `Put back into ${poolNames(family).value} what held it: prefixes may be added, not changed while nodes have pod CIDRs of them`,
        },
      )
    }
    return undefined
  }

  #usageOf(family: Family, taken: TakenRanges): PoolUsage {
    const { cidrs, maskSize } = this.#pools[family] as NodePool
    const capacity = cidrs.reduce((sum, cidr) => sum + (1n << BigInt(maskSize - lengthOf(cidr))), 0n)
    return { family, capacity, used: capacity - cidrs.reduce((sum, cidr) => sum + taken.countFree(cidr, maskSize), 0n) }
  }
}

interface Held {
  readonly node: PoolNode
  readonly cidrs: readonly Cidr[]
  readonly malformed: Fault | undefined
}

function read({ name, podCidrs }: PoolNode): Omit<Held, 'node'> {
  const cidrs: Cidr[] = []
  let malformed: Fault | undefined
  for (const [index, text] of podCidrs.entries()) {
    const cidr = parseCidr(text)
    if (cidr !== undefined) cidrs.push(cidr)
    else {
      malformed ??= new Fault(
        'ipam.pool.malformed',
        `spec.ipam.podCIDRs[${index}] of node ${name} is no prefix: "${text}"`,
        {
          field: `spec.ipam.podCIDRs[${index}]`,
          remedy: `Correct it, or remove it from CiliumNode ${name}: a pod CIDR of the pool is given then`,
        },
      )
    }
  }
  return { cidrs, malformed }
}

/** By node, of those that hold what an older one holds too. One sweep: an overlap begins inside what is still open. */
function overlapsOf(held: readonly Held[]): ReadonlyMap<string, Fault> {
  const all = held
    .flatMap(({ node, cidrs }, age) => cidrs.map((cidr) => ({ name: node.name, age, cidr, ...rangeOf(cidr) })))
    .map((range) => ({ ...range, family: cidrFamily(range.cidr) }))
    .sort((a, b) => a.family - b.family || (a.start < b.start ? -1 : a.start > b.start ? 1 : 0))
  const faults = new Map<string, Fault>()
  let open: typeof all = []
  for (const range of all) {
    open = open.filter((earlier) => earlier.family === range.family && earlier.end > range.start)
    for (const earlier of open) {
      if (earlier.name === range.name) continue
      const [older, younger] = earlier.age < range.age ? [earlier, range] : [range, earlier]
      if (faults.has(younger.name)) continue
      faults.set(
        younger.name,
        new Fault(
          'ipam.pool.overlap',
          `pod CIDR ${younger.cidr} of node ${younger.name} overlaps ${older.cidr} of node ${older.name}, which had it before`,
          {
            field: 'spec.ipam.podCIDRs',
            remedy: `Drain node ${younger.name}, delete its Node and let it register anew: it gets another one`,
          },
        ),
      )
    }
    // a thousand nodes with one CIDR are half a million pairs, and one mistake
    if (open.length < MOST_OPEN) open.push(range)
  }
  return faults
}

const MOST_OPEN = 64

function byAge(a: PoolNode, b: PoolNode): number {
  if (a.since !== b.since) return a.since < b.since ? -1 : 1
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0
}

function ofFamily(cidrs: readonly Cidr[], family: Family): TakenRanges {
  return new TakenRanges(cidrs.filter((cidr) => cidrFamily(cidr) === family))
}

function within(pools: readonly Cidr[], cidr: Cidr): boolean {
  return pools.some((pool) => containsCidr(pool, cidr))
}

function unguardedOf(pools: PerFamily<NodePool>, nodes: readonly PoolNode[]): ReadonlyMap<Cidr, readonly string[]> {
  const all = FAMILIES.flatMap((family) => pools[family]?.cidrs ?? [])
  return new Map(
    all.flatMap((cidr) => {
      const open = nodes.filter(({ exists, guards }) => exists && guards !== undefined && !within(guards, cidr))
      return open.length === 0 ? [] : [[cidr, open.map(({ name }) => name).sort()]]
    }),
  )
}
