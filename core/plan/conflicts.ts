import { FAMILIES, FAMILY_BITS, type Ip, ipToValue } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, lengthOf, networkOf } from '#core/ip/cidr.ts'
import type { PublicKey } from '#core/wireguard/key.ts'
import type { PeerFacts } from './peer-facts.ts'
import { nodeObject, type Problem } from './problem.ts'
import { type OwnNode } from './snapshot.ts'

/**
 * What two nodes claim at once. A claim that two peers make proves nothing about either, so neither gets it; against
 * this node's own, the peer's claim is the wrong one.
 */
export interface Conflicts {
  readonly keys: ReadonlySet<PublicKey>
  readonly nodeIps: ReadonlySet<Ip>
  /** By peer name. */
  readonly podCidrs: ReadonlyMap<string, ReadonlySet<Cidr>>
  readonly problems: readonly Problem[]
}

export function conflictsOf(self: OwnNode, peers: readonly PeerFacts[]): Conflicts {
  const problems: Problem[] = []
  const keys = claims(self.name, self.publicKey === undefined ? [] : [self.publicKey], peers, (facts) =>
    facts.key === undefined ? [] : [facts.key],
  )
  for (const [key, names] of keys) {
    problems.push({
      code: 'peer.key.duplicate',
      object: nodeObject(names[1] as string),
      message: `nodes ${names.join(' and ')} announce the same public key ${key}; no traffic is sent to ${others(names, self)} with it`,
      remedy: `Delete the key file of the node that was copied from another, and restart its agent`,
    })
  }
  const ips = claims(self.name, present(self), peers, (facts) => present(facts))
  for (const [ip, names] of ips) {
    problems.push({
      code: 'peer.ip.duplicate',
      object: nodeObject(names[1] as string),
      message: `nodes ${names.join(' and ')} announce the same address ${ip}; nothing is sent to ${others(names, self)}`,
      remedy: 'Delete the CiliumNode of the node that no longer exists, or correct its InternalIP',
    })
  }
  return {
    keys: new Set(keys.keys()),
    nodeIps: new Set(ips.keys()),
    podCidrs: overlapsOf(self, peers, problems),
    problems,
  }
}

/** What more than one node claims, with the names of all that do, in order of name, this node's own first. */
function claims<T>(
  ownName: string,
  own: readonly T[],
  peers: readonly PeerFacts[],
  of: (facts: PeerFacts) => readonly T[],
): Map<T, string[]> {
  const first = new Map<T, string>()
  const twice = new Map<T, string[]>()
  for (const value of own) first.set(value, ownName)
  for (const facts of peers) {
    for (const value of of(facts)) {
      const holder = first.get(value)
      if (holder === undefined) first.set(value, facts.peer.name)
      else twice.set(value, [...(twice.get(value) ?? [holder]), facts.peer.name])
    }
  }
  for (const names of twice.values()) {
    names.sort((a, b) => (a === ownName ? -1 : b === ownName ? 1 : a < b ? -1 : 1))
  }
  return twice
}

function present(node: Pick<OwnNode, 'nodeIps'>): readonly Ip[] {
  return FAMILIES.flatMap((family) => node.nodeIps[family] ?? [])
}

function others(names: readonly string[], self: OwnNode): string {
  return names.filter((name) => name !== self.name).join(' and ')
}

interface Range {
  readonly name: string
  readonly cidr: Cidr
  readonly family: number
  readonly start: bigint
  readonly end: bigint
}

const ranges = new WeakMap<readonly Cidr[], readonly Omit<Range, 'name'>[]>()

function rangesOf(cidrs: readonly Cidr[]): readonly Omit<Range, 'name'>[] {
  let list = ranges.get(cidrs)
  if (list === undefined) {
    list = cidrs.map((cidr) => {
      const family = cidrFamily(cidr)
      const start = ipToValue(networkOf(cidr))
      return { cidr, family, start, end: start + (1n << BigInt(FAMILY_BITS[family] - lengthOf(cidr))) }
    })
    ranges.set(cidrs, list)
  }
  return list
}

/**
 * One sweep over all prefixes in order: a prefix can only overlap those that are still open at its start. Of two that
 * overlap both are refused: were the narrower one taken, two halves would be enough to take another node's prefix over.
 * (Kubernetes grants each node its own, and what is not granted never comes here: peer-facts.ts.)
 */
function overlapsOf(
  self: OwnNode,
  peers: readonly PeerFacts[],
  problems: Problem[],
): ReadonlyMap<string, ReadonlySet<Cidr>> {
  const all: Range[] = rangesOf(self.podCidrs).map((range) => ({ name: self.name, ...range }))
  for (const facts of peers) for (const range of rangesOf(facts.podCidrs)) all.push({ name: facts.peer.name, ...range })
  all.sort((a, b) => a.family - b.family || (a.start < b.start ? -1 : a.start > b.start ? 1 : a.end > b.end ? -1 : 1))
  const refused = new Map<string, Set<Cidr>>()
  const refuse = (range: Range, because: Range) => {
    if (range.name === self.name) return
    const set = refused.get(range.name) ?? new Set()
    refused.set(range.name, set)
    if (set.has(range.cidr)) return
    set.add(range.cidr)
    problems.push({
      code: 'peer.pod-cidr.overlap',
      object: nodeObject(range.name),
      message: `pod CIDR ${range.cidr} of node ${range.name} overlaps ${because.cidr} of node ${because.name}; no packet is sent to ${range.name} by it`,
      remedy: 'Delete the CiliumNode of the node that no longer exists, or give one of them another pod CIDR',
    })
  }
  let open: Range[] = []
  for (const range of all) {
    open = open.filter((earlier) => earlier.family === range.family && earlier.end > range.start)
    for (const earlier of open) {
      if (earlier.name === range.name) continue
      refuse(earlier, range)
      refuse(range, earlier)
    }
    open.push(range)
  }
  return refused
}
