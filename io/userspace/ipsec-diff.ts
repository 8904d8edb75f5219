import type { DumpedAssociation, EngineKeys } from '#core/engine/association.ts'
import type { DumpedPeer } from '#core/engine/event.ts'
import { type EngineRequest, MAX_PREFIXES } from '#core/engine/request.ts'
import { Fault } from '#core/fault/fault.ts'
import type { Ip } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import type { DerivedKey } from '#core/ipsec/pair-derivation.ts'
import type { PublicKey } from '#core/wireguard/key.ts'

/** What an engine has, of what is compared. */
export interface EngineIpsecState {
  readonly peers: readonly Pick<DumpedPeer, 'peer' | 'publicKey'>[]
  readonly allowed: readonly { readonly peer: number; readonly prefixes: readonly Cidr[] }[]
  readonly associations: readonly DumpedAssociation[]
}

/** A peer with its keys derived. */
export interface WantedPeer {
  /** docs/protocol/engine.md: of both boot ids and the node's name. */
  readonly identity: PublicKey
  readonly node: string
  readonly destination: Ip
  readonly encapsulation: 'udp' | 'none'
  readonly allowedIps: readonly Cidr[]
  readonly receive: readonly DerivedKey<EngineKeys>[]
  readonly send: DerivedKey<EngineKeys> | undefined
}

/** Associations that an engine receives by from one peer (docs/protocol/engine.md, SET_RECEIVING). */
const RECEIVING = 4

/** Each part is asked for when the one before has been answered. */
export interface IpsecChange {
  /** Unwanted associations that have to go first, since there is no room for the wanted ones beside them. */
  readonly makeRoom: readonly EngineRequest[]
  /** Slots, prefixes, associations that are received by: nothing that is there ends. */
  readonly receive: readonly EngineRequest[]
  readonly send: readonly EngineRequest[]
  readonly remove: readonly EngineRequest[]
  /** By name of the node. */
  readonly slots: ReadonlyMap<string, number>
}

/**
 * What leads from `actual` to `wanted`: nothing where they agree, so an agent that begins anew touches nothing.
 *
 * A node that comes back with another boot id gets the slot that it had, and so does whoever has the address of one
 * that goes: two slots with the same outer addresses and SPI could not be told apart on receiving.
 */
export function diffIpsec(
  wanted: readonly WantedPeer[],
  actual: EngineIpsecState,
  options: { readonly maxPeers: number; readonly udpPort: number },
): IpsecChange {
  const slots = assignSlots(wanted, actual, options.maxPeers)
  const emptied = new Set<number>()
  const change = {
    makeRoom: [] as EngineRequest[],
    receive: [] as EngineRequest[],
    send: [] as EngineRequest[],
    remove: [] as EngineRequest[],
  }
  const identities = new Map(actual.peers.map(({ peer, publicKey }) => [peer, publicKey]))
  const owners = new Map<Cidr, number>()
  for (const { peer, prefixes } of actual.allowed) for (const prefix of prefixes) owners.set(prefix, peer)
  const wantedOwners = new Map<Cidr, number>()

  for (const peer of wanted) {
    const slot = slots.get(peer.node) as number
    for (const prefix of peer.allowedIps) wantedOwners.set(prefix, slot)
    const fresh = identities.get(slot) !== peer.identity
    if (fresh) {
      emptied.add(slot)
      change.receive.push({ op: 'setPeer', peer: slot, publicKey: peer.identity, endpoint: undefined })
    }
    const gained = peer.allowedIps.filter((prefix) => fresh || owners.get(prefix) !== slot)
    for (let at = 0; at < gained.length; at += MAX_PREFIXES) {
      change.receive.push({ op: 'allow', peer: slot, prefixes: gained.slice(at, at + MAX_PREFIXES) })
    }
  }

  const there = new Map<string, DumpedAssociation>()
  for (const one of actual.associations) if (!emptied.has(one.peer)) there.set(idOf(one), one)
  const kept = new Set<string>()
  for (const peer of wanted) {
    const slot = slots.get(peer.node) as number
    for (const one of peer.receive) {
      const id = idOf({ direction: 'in', peer: slot, ...one })
      kept.add(id)
      if (there.has(id)) continue
      change.receive.push({ op: 'setReceiving', peer: slot, spi: one.spi, outer: one.outer, keys: one.keys() })
    }
    if (peer.send === undefined) continue
    const { spi, outer, fingerprint } = peer.send
    const id = idOf({ direction: 'out', peer: slot, spi, fingerprint })
    kept.add(id)
    if (there.get(id)?.encapsulation === peer.encapsulation) continue
    const { encapsulation } = peer
    const port = encapsulation === 'udp' ? options.udpPort : 0
    change.send.push({ op: 'setSending', peer: slot, spi, encapsulation, port, outer, keys: peer.send.keys() })
  }

  const used = new Set(slots.values())
  const unwanted = [...there].filter(([id, { peer }]) => !kept.has(id) && used.has(peer)).map(([, one]) => one)
  const first = inTheWay(unwanted, wanted, slots)
  for (const one of unwanted) {
    const { direction, peer, spi, fingerprint } = one
    const requests = first.has(one) ? change.makeRoom : change.remove
    requests.push({ op: 'removeAssociation', direction, peer, spi, fingerprint })
  }
  for (const { peer, prefixes } of actual.allowed) {
    const lost = prefixes.filter((prefix) => !wantedOwners.has(prefix))
    if (used.has(peer) && !emptied.has(peer) && lost.length > 0) {
      change.remove.push({ op: 'disallow', peer, prefixes: lost })
    }
  }
  for (const { peer } of actual.peers) if (!used.has(peer)) change.remove.push({ op: 'removePeer', peer })
  return { ...change, slots }
}

/**
 * What was left by changes that came one upon the other, each cut short before its removals. Those of a former address
 * first: by them the peer cannot be sending any more.
 */
function inTheWay(
  unwanted: readonly DumpedAssociation[],
  wanted: readonly WantedPeer[],
  slots: ReadonlyMap<string, number>,
): ReadonlySet<DumpedAssociation> {
  const incoming = Map.groupBy(
    unwanted.filter(({ direction }) => direction === 'in'),
    ({ peer }) => peer,
  )
  const first = new Set<DumpedAssociation>()
  for (const { node, destination, receive } of wanted) {
    const theirs = incoming.get(slots.get(node) as number)
    if (theirs === undefined) continue
    const former = (one: DumpedAssociation) => (theirAddress(one) === destination ? 1 : 0)
    const tooMany = receive.length + theirs.length - RECEIVING
    for (const one of theirs.sort((a, b) => former(a) - former(b)).slice(0, Math.max(0, tooMany))) first.add(one)
  }
  return first
}

function assignSlots(wanted: readonly WantedPeer[], actual: EngineIpsecState, maxPeers: number): Map<string, number> {
  const slots = new Map<string, number>()
  const byIdentity = new Map(actual.peers.map(({ peer, publicKey }) => [publicKey, peer]))
  const addresses = new Map(actual.associations.map((one) => [one.peer, theirAddress(one)]))
  const free = new Map(actual.peers.map(({ peer }) => [peer, addresses.get(peer)]))
  for (const { node, identity } of wanted) {
    const slot = byIdentity.get(identity)
    if (slot === undefined) continue
    slots.set(node, slot)
    free.delete(slot)
  }
  const byAddress = new Map([...free].flatMap(([slot, ip]) => (ip === undefined ? [] : [[ip, slot] as const])))
  const taken = new Set(actual.peers.map(({ peer }) => peer))
  let next = 0
  for (const { node, destination } of wanted) {
    if (slots.has(node)) continue
    let slot = byAddress.get(destination)
    if (slot === undefined) {
      while (taken.has(next)) next++
      slot = next
    }
    byAddress.delete(destination)
    if (slot >= maxPeers) {
      throw new Fault('datapath.full', `the engine has room for ${maxPeers} nodes, and there are more`, {
        remedy: 'Start the supervisor with a larger --max-peers.',
      })
    }
    taken.add(slot)
    slots.set(node, slot)
  }
  return slots
}

/** The peer's outer address, which all of its associations have. */
function theirAddress({ direction, outer }: DumpedAssociation): Ip {
  return direction === 'in' ? outer.source : outer.destination
}

function idOf(one: Pick<DumpedAssociation, 'direction' | 'peer' | 'spi' | 'fingerprint'>): string {
  return `${one.direction} ${one.peer} ${one.spi} ${one.fingerprint}`
}
