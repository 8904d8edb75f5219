import { Fault } from '#core/fault/fault.ts'
import type { Ip } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, lengthOf, requireCidr } from '#core/ip/cidr.ts'
import { wipeCrypto } from '#core/ipsec/xfrm-crypto.ts'
import { IPPROTO_ESP, type XfrmMark } from '#core/netlink/xfrm.ts'
import type { XfrmPolicy } from '#core/netlink/xfrm-policy.ts'
import type { XfrmReplay } from '#core/netlink/xfrm-replay.ts'
import {
  type SeenXfrmState,
  UDP_ENCAP_ESPINUDP,
  XFRM_STATE_AF_UNSPEC,
  XFRM_STATE_ESN,
  type XfrmState,
} from '#core/netlink/xfrm-state.ts'
import type { XfrmChange } from './xfrm-client.ts'
import type { WantedState, WantedXfrmPeer } from './xfrm-keys.ts'

/** What a state that sends may have sent since its number was read: nobody sends a million packets in that time. */
export const SEQUENCE_MARGIN = 1n << 20n
const RECEIVE_WINDOW = 1024
/** The kernel wants one with 64-bit numbers. */
const SEND_WINDOW = 32
const REQID = 1
/** As Cilium's: what arrives from that peer. The kernel finds a state by destination, SPI and mark, never by its source. */
const RECEIVE_MARK = 0xd00
export const RECEIVE_MASK = 0xffff0f00
const MOST_PEERS = 0xffff
/** A longer prefix wins; the last is what drops. */
const LOWEST_PRIORITY = 1000

/** A state as the kernel has it, its key known by name only. */
export interface ActualState extends Omit<SeenXfrmState, 'crypto'> {
  readonly fingerprint: string | undefined
  readonly algorithm: string
}

export interface XfrmActual {
  /** Those of the device's interface id. */
  readonly states: readonly ActualState[]
  readonly policies: readonly XfrmPolicy[]
}

/** Each part is brought about when the one before is; what a part replaces is gone for a moment, and nothing else. */
export interface XfrmDiff {
  readonly receive: readonly XfrmChange[]
  readonly send: readonly XfrmChange[]
  readonly remove: readonly XfrmChange[]
  /** By outer source: what arrives from there has the mark of its states. Of peers that go as well. */
  readonly marksBefore: ReadonlyMap<Ip, number>
  readonly marksAfter: ReadonlyMap<Ip, number>
  /** By which is sent from now on, by fingerprint: to be noted before. */
  readonly used: readonly string[]
  /** What ends, by fingerprint: nothing is sent beyond that number, or was taken beyond it. */
  readonly spent: ReadonlyMap<string, bigint>
}

export interface XfrmDiffOptions {
  readonly interfaceId: number
  /** Firewall mark of what leaves encrypted. */
  readonly mark: number
  readonly udpPort: number
  /** Marks of peers that are there and stay as they are: neither in what is wanted nor in what is compared with. */
  readonly others?: ReadonlyMap<Ip, number>
  /** Where a key that is in no state was left; `used`: nobody knows. */
  spent(fingerprint: string): bigint | 'used' | undefined
}

/**
 * What leads from `actual` to `wanted`: nothing where they agree, so an agent that begins anew touches nothing. What drops
 * comes first and stays.
 *
 * @throws Fault `datapath.boot-id` when a key is to be sent by that was used for nobody knows how much: only another boot
 *   id, and with it other keys, help
 */
export function diffXfrm(wanted: readonly WantedXfrmPeer[], actual: XfrmActual, options: XfrmDiffOptions): XfrmDiff {
  const { interfaceId, mark, udpPort } = options
  const receive: XfrmChange[] = []
  const send: XfrmChange[] = []
  const remove: XfrmChange[] = []
  const states = new Map(actual.states.map((state) => [idOfState(state), state]))
  const policies = new Map(actual.policies.map((policy) => [idOfPolicy(policy), policy]))
  const sent = new Map<string, bigint>()
  for (const { mark: own, fingerprint, replay } of actual.states) {
    if (own === undefined && fingerprint !== undefined) sent.set(fingerprint, replay.sent + SEQUENCE_MARGIN)
  }
  const marks = assignMarks(wanted, actual.states, options.others)
  const marksAfter = new Map<Ip, number>(options.others)
  const kept = new Set<string>()
  const keptPolicies = new Set<string>()
  const used: string[] = []
  const spent = new Map<string, bigint>()

  const setPolicy = (policy: XfrmPolicy, into: XfrmChange[]) => {
    const id = idOfPolicy(policy)
    keptPolicies.add(id)
    const there = policies.get(id)
    if (there === undefined || !samePolicy(there, policy)) into.push({ do: 'set policy', policy })
  }
  const setState = (one: WantedState, state: Omit<XfrmState, 'crypto' | 'replay'>, into: XfrmChange[]) => {
    const id = idOfState(state)
    kept.add(id)
    const there = states.get(id)
    const sends = state.mark === undefined
    if (there?.fingerprint === one.fingerprint && sameEncapsulation(there, state)) {
      if (sameMark(there.outputMark, state.outputMark)) return
      into.push({ do: 'update state', state: { ...state, replay: there.replay, crypto: one.keys() } })
      return
    }
    const last = sends ? (sent.get(one.fingerprint) ?? options.spent(one.fingerprint) ?? 0n) : 0n
    if (last === 'used') throw usedBefore(state.destination)
    if (sends) used.push(one.fingerprint)
    if (there !== undefined) {
      into.push({ do: 'delete state', state: there })
      if (there.fingerprint !== one.fingerprint) end(there)
    }
    // what came already under this key stays refused
    const again = there?.fingerprint === one.fingerprint ? there.replay : undefined
    const replay = sends
      ? { sent: last, received: 0n, window: SEND_WINDOW }
      : (again ?? receivingFrom(options.spent(one.fingerprint)))
    into.push({ do: 'add state', state: { ...state, replay, crypto: one.keys() } })
  }

  function end({ mark: receives, fingerprint, replay }: ActualState): void {
    if (fingerprint === undefined || used.includes(fingerprint)) return
    if (receives === undefined) spent.set(fingerprint, replay.sent + SEQUENCE_MARGIN)
    else if (replay.received > 0n) spent.set(fingerprint, replay.received)
  }

  for (const policy of droppingPolicies(interfaceId)) setPolicy(policy, receive)
  for (const peer of wanted) {
    const { source: own, destination: theirs } = peer
    const common = { protocol: IPPROTO_ESP, mode: 'tunnel', reqid: REQID, interfaceId } as const
    const flags = XFRM_STATE_ESN | XFRM_STATE_AF_UNSPEC
    const encapsulation =
      peer.encapsulation === 'udp'
        ? { encapsulation: { type: UDP_ENCAP_ESPINUDP, sourcePort: udpPort, destinationPort: udpPort } }
        : {}
    const value = marks.get(theirs) as number
    marksAfter.set(theirs, value)
    for (const one of peer.receive) {
      setState(
        one,
        {
          ...common,
          source: theirs,
          destination: own,
          spi: one.spi,
          flags,
          mark: { value, mask: RECEIVE_MASK },
          // what was decrypted carries nothing of how it came
          outputMark: { value: 0, mask: RECEIVE_MASK },
          ...encapsulation,
        },
        receive,
      )
    }
    const policiesOfPeer = peerPolicies(peer, interfaceId)
    for (const policy of policiesOfPeer) if (policy.direction !== 'out') setPolicy(policy, receive)
    if (peer.send === undefined) continue
    setState(
      peer.send,
      {
        ...common,
        source: own,
        destination: theirs,
        spi: peer.send.spi,
        flags,
        outputMark: { value: mark, mask: 0xffffffff },
        ...encapsulation,
      },
      send,
    )
    for (const policy of policiesOfPeer) if (policy.direction === 'out') setPolicy(policy, send)
  }

  for (const [id, policy] of policies) if (!keptPolicies.has(id)) remove.push({ do: 'delete policy', policy })
  for (const [id, state] of states) {
    if (kept.has(id)) continue
    remove.push({ do: 'delete state', state })
    end(state)
  }
  return { receive, send, remove, marksBefore: marks, marksAfter, used, spent }
}

/** With all before that number seen: nobody can repeat it to a state that is made again. */
function receivingFrom(last: bigint | 'used' | undefined): XfrmReplay {
  const replay = { sent: 0n, received: 0n, window: RECEIVE_WINDOW }
  if (typeof last !== 'bigint' || last === 0n) return replay
  return { ...replay, received: last, bitmap: Array.from({ length: RECEIVE_WINDOW / 32 }, () => 0xffffffff) }
}

/** What a peer may speak as, and how it is spoken to. */
export function peerPolicies(peer: WantedXfrmPeer, interfaceId: number): readonly XfrmPolicy[] {
  const { source: own, destination: theirs, send } = peer
  const common = { protocol: IPPROTO_ESP, mode: 'tunnel', reqid: REQID } as const
  const [inward, outward] = [
    { ...common, source: theirs, destination: own, spi: 0 },
    { ...common, source: own, destination: theirs, spi: send?.spi ?? 0 },
  ]
  return peer.allowedIps.flatMap((inner) => {
    const all = everything(inner)
    const from = { source: inner, destination: all }
    const to = { source: all, destination: inner }
    return [
      policyOf(from, 'in', inner, interfaceId, [inward]),
      policyOf(from, 'fwd', inner, interfaceId, [inward]),
      ...(send === undefined ? [] : [policyOf(to, 'out', inner, interfaceId, [outward])]),
    ]
  })
}

/** Of both families and all directions: with no other policy, or before there is one, nothing passes the device. */
export function droppingPolicies(interfaceId: number): readonly XfrmPolicy[] {
  return ['0.0.0.0/0', '::/0'].flatMap((text) => {
    const all = requireCidr(text, 'policy')
    return (['out', 'in', 'fwd'] as const).map(
      (direction): XfrmPolicy => ({
        selector: { source: all, destination: all },
        direction,
        priority: LOWEST_PRIORITY,
        action: 'block',
        templates: [],
        interfaceId,
      }),
    )
  })
}

function policyOf(
  selector: XfrmPolicy['selector'],
  direction: XfrmPolicy['direction'],
  inner: Cidr,
  interfaceId: number,
  templates: XfrmPolicy['templates'],
): XfrmPolicy {
  return {
    selector,
    direction,
    priority: LOWEST_PRIORITY - 1 - lengthOf(inner),
    action: 'allow',
    templates,
    interfaceId,
  }
}

function everything(beside: Cidr): Cidr {
  return requireCidr(cidrFamily(beside) === 4 ? '0.0.0.0/0' : '::/0', 'policy')
}

/** A peer that has states keeps the number that they have. */
function assignMarks(
  wanted: readonly WantedXfrmPeer[],
  states: readonly ActualState[],
  others: ReadonlyMap<Ip, number> | undefined,
): Map<Ip, number> {
  const marks = new Map<Ip, number>(others)
  for (const { source, mark } of states) if (mark !== undefined) marks.set(source, mark.value)
  const taken = new Set(marks.values())
  let next = 1
  for (const { destination } of wanted) {
    if (marks.has(destination)) continue
    while (taken.has(markOf(next))) next++
    if (next > MOST_PEERS) {
      throw new Fault('datapath.full', `the kernel datapath has room for ${MOST_PEERS} nodes, and there are more`)
    }
    marks.set(destination, markOf(next))
    taken.add(markOf(next))
  }
  return marks
}

/** Unsigned. */
function markOf(id: number): number {
  return id * 0x10000 + RECEIVE_MARK
}

type StateId = Pick<XfrmState, 'source' | 'destination' | 'spi' | 'mark'>

/** Those of both directions: only what receives has a mark. */
function idOfState({ source, destination, spi, mark }: StateId): string {
  return `${source} ${destination} ${spi} ${mark?.value ?? 'out'}`
}

function idOfPolicy({ selector, direction }: Pick<XfrmPolicy, 'selector' | 'direction'>): string {
  const { source, destination, protocol = 0, sourcePort = 0, destinationPort = 0, index = 0 } = selector
  return `${direction} ${source} ${destination} ${protocol} ${sourcePort} ${destinationPort} ${index}`
}

function samePolicy(there: XfrmPolicy, wanted: XfrmPolicy): boolean {
  if (there.action !== wanted.action || there.priority !== wanted.priority) return false
  if (there.mark !== undefined || there.templates.length !== wanted.templates.length) return false
  return wanted.templates.every((template, i) => {
    const other = there.templates[i]
    return (
      other !== undefined &&
      other.optional !== true &&
      other.source === template.source &&
      other.destination === template.destination &&
      other.spi === template.spi &&
      other.reqid === template.reqid &&
      other.mode === template.mode &&
      other.protocol === template.protocol
    )
  })
}

function sameEncapsulation(there: Pick<XfrmState, 'encapsulation'>, wanted: Pick<XfrmState, 'encapsulation'>): boolean {
  const [a, b] = [there.encapsulation, wanted.encapsulation]
  return a?.type === b?.type && a?.sourcePort === b?.sourcePort && a?.destinationPort === b?.destinationPort
}

function sameMark(a: XfrmMark | undefined, b: XfrmMark | undefined): boolean {
  return a?.value === b?.value && a?.mask === b?.mask
}

function usedBefore(destination: Ip): Fault {
  return new Fault('datapath.boot-id', `the state that sends to ${destination} is gone, and its last number with it`, {
    field: destination,
    remedy: 'Somebody has removed it (ip xfrm state flush does). Open the device again: it begins with other keys.',
  })
}

/** Overwrites the keys of changes that were made, or never will be. */
export function wipeChanges(changes: readonly XfrmChange[]): void {
  for (const change of changes) {
    if (change.do === 'add state' || change.do === 'update state') wipeCrypto(change.state.crypto)
  }
}
