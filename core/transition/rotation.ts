import { hasKey, type KeyFingerprint, type KeyRef, MAX_HELD_KEYS, sameKey } from '#core/ipsec/key.ts'
import type { IpsecWords } from '#core/ipsec/words.ts'
import { describeRotation, findProblems, type RotationProblem } from './rotation-status.ts'

/**
 * Changing the cluster's IPsec key without losing a packet. Pure, without coordinator; the one timer waits for packets in
 * flight, none decides that a key is unused. rotation-operator.ts is the other half: it says which keys there are, and in
 * which order.
 *
 * A node says two lists of keys (core/ipsec/words.ts): what it receives by, and what it sends by. Two promises hold
 * for every word that others may see:
 *
 * 1. *It receives by all of `receives`*, until every other node has made promise 2 about the key.
 * 2. *From then on it sends only by keys in `sends`, or by the newest in `receives`.* So what has gone from `sends` and is
 *    not the newest never comes back; words of one node are seen in the order in which they were said, so whoever has
 *    seen it gone may rely on it, however old the words are by now.
 *
 * It sends to a peer by the newest key that promise 2 allows and that both have said they receive. It stops receiving
 * by a key that is not its newest when it sends nothing by it and each peer's last words have it neither in `sends` nor as
 * the newest: by promise 2 that peer will not use it again. A second later what was in flight has arrived.
 *
 * A peer of whom no words were seen is no exception: the engine sends nothing to a peer that it has not heard, and a
 * node sends nothing to one whose words it has not seen. So whoever sends here has been seen.
 *
 * The price: a node that joins in the middle of a rotation waits for those peers that do not have the newest key yet.
 *
 * What the caller owes:
 * - One step at a time: what {@link Rotation.step} says is done and reported in the next view before anything else.
 * - Words and `spec.bootid` are written in one update; `said` begins anew with each boot id.
 * - After a start it reads its own CiliumNode and the kept texts from the API server itself, not from a cache that may be
 *   older than what it had said or seen before; other nodes' words may be old.
 */
export interface RotationView {
  readonly sources: RotationSources
  readonly own: RotationOwn
  /** All other nodes of the cluster, ready or not; a node that is gone does not count. */
  readonly peers: readonly RotationPeer[]
  /** Names of nodes that are not waited for, and not sent to by anything but the newest key (`--force`). */
  readonly forced: readonly string[]
  /** Milliseconds of a clock that never goes back. */
  readonly now: number
  /** {@link Rotation.quiet} of the last time; losing it costs a second. */
  readonly quiet: Quiet | undefined
}

export interface RotationSources {
  /** The operator's sequence (rotation-operator.ts), oldest first; empty when it has not run yet. */
  readonly kept: readonly KeyRef[]
  /** Of texts that were used before: the operator's, or this node's own where there is none. */
  readonly retired: readonly KeyFingerprint[]
  /** The user's present text, line by line; empty when there is none or it cannot be read. */
  readonly user: readonly KeyRef[]
  /** False where every node has a file of its own that nobody keeps: then the user's text is taken as it comes. */
  readonly operator: boolean
  /**
   * The operator's Secret is there: what is not in `kept` is not taken, even if nothing is. Nodes that begin while the user
   * changes their mind would else have two texts under one id. Without that Secret, the user's text is where it begins.
   */
  readonly isKeeping?: boolean
  /** Keys that this node's datapath does not have: they are not taken. */
  readonly unusable: readonly UnusableKey[]
}

export interface UnusableKey {
  readonly key: KeyRef
  /** Such as `the userspace datapath has no hmac(sha1),cbc(aes)`. */
  readonly missing: string
  readonly remedy: string
}

export interface RotationOwn {
  /** Keys whose bytes this node has: from the sources, or from before. */
  readonly known: readonly KeyRef[]
  /**
   * What others may see of this node under this boot id: the last words known to be written, then those whose writing
   * was tried without an answer. Empty before the first.
   */
  readonly said: readonly IpsecWords[]
  /**
   * {@link Rotation.receive} of the last step that the datapath has acknowledged. Undefined after a start: the datapath may
   * hold anything from before, also a key of an id that has come again; so what was said is applied first, and that alone.
   */
  readonly installed: readonly KeyRef[] | undefined
  /** By which packets may leave to each peer, after the datapath's barrier; empty after a start. */
  readonly sending: ReadonlyMap<string, KeyRef>
}

export interface RotationPeer {
  readonly name: string
  /** Undefined: its agent has said nothing yet under its boot id. */
  readonly words: IpsecWords | undefined
  /** It may not know this node yet, so it is not sent to; its words count all the same: it may send as soon as it does. */
  readonly isNew?: boolean
}

export interface Rotation {
  /** What to do now: `apply` receive and send to the datapath, `publish` the words, or nothing until the view changes. */
  readonly step: 'apply' | 'publish' | 'wait'
  /** When to ask again though nothing has changed. */
  readonly wakeAt: number | undefined
  /** Oldest first; the last is the newest. */
  readonly receive: readonly KeyRef[]
  /** By node; a peer without a key waits. */
  readonly send: ReadonlyMap<string, KeyRef>
  readonly words: IpsecWords
  /** The key that is on its way out, and since when nobody can send by it. */
  readonly quiet: Quiet | undefined
  readonly phase: 'none' | 'steady' | 'rotating'
  /** One line for `status`. */
  readonly text: string
  /** Names of the nodes without which the old key is not let go, sorted. */
  readonly waitingFor: readonly string[]
  readonly problems: readonly RotationProblem[]
}

export interface Quiet {
  readonly key: KeyRef
  readonly since: number
}

/** Milliseconds in which a packet that has left is received, or never. */
export const FLIGHT_TIME = 1000

export function rotate(view: RotationView): Rotation {
  const { own, now } = view
  const held = heldKeys(view)
  const wanted = [...held, ...newKeys(view, held)]
  const { quiet, waitingFor } = findRetiring(view, wanted)
  const isOver = quiet !== undefined && now - quiet.since >= FLIGHT_TIME
  const staying = isOver ? wanted.filter((key) => !sameKey(key, quiet.key)) : wanted
  // said before it is done: an agent that starts in between must not install it again, with a replay window that is empty
  const isUnsaid = own.said.every(({ receives }) => !isOver || !hasKey(receives, quiet.key))
  const receive = isUnsaid ? staying : wanted
  const send = new Map<string, KeyRef>()
  for (const peer of view.peers) {
    const key = sendingKey(view, staying, peer)
    if (key !== undefined) send.set(peer.name, key)
  }
  const words = wordsOf(own, staying)
  const said = own.said.length === 1 ? own.said[0] : undefined
  const isApplied = own.installed !== undefined && sameKeys(receive, own.installed) && sameSending(send, own.sending)
  const isSaid = said !== undefined && sameKeys(said.receives, words.receives) && sameKeys(said.sends, words.sends)
  return {
    step: !isApplied ? 'apply' : !isSaid ? 'publish' : 'wait',
    wakeAt: quiet === undefined || isOver ? undefined : quiet.since + FLIGHT_TIME,
    receive,
    send,
    words,
    quiet,
    ...describeRotation(view, staying, waitingFor),
    waitingFor,
    problems: findProblems(view, receive),
  }
}

/** What this node receives by, as far as it still has the bytes: what the operator does not list any more is older. */
function heldKeys({ own, sources }: RotationView): readonly KeyRef[] {
  // words that were tried may hold a key that is not installed any more; after a start there are only words
  const said = own.said.flatMap(({ receives }) => receives)
  const held: KeyRef[] = []
  for (const key of own.installed ?? said) {
    if (!hasKey(held, key) && hasKey(own.known, key)) held.push(key)
  }
  if (!sources.operator) return held
  return [...held.filter((key) => !hasKey(sources.kept, key)), ...sources.kept.filter((key) => hasKey(held, key))]
}

/** What to receive by as well. A key that is older than one that is held never comes back. */
function newKeys({ sources, own }: RotationView, held: readonly KeyRef[]): readonly KeyRef[] {
  if (own.installed === undefined) return []
  let offered: readonly KeyRef[]
  if (held.length === 0) {
    const isListed = sources.operator && (sources.kept.length > 0 || sources.isKeeping === true)
    offered = (isListed ? sources.kept : sources.user).slice(-MAX_HELD_KEYS)
  } else if (!sources.operator) {
    offered = sources.user.slice(-1)
  } else {
    const newest = sources.kept.findLastIndex((key) => hasKey(held, key))
    offered = newest < 0 ? sources.kept.slice(-1) : sources.kept.slice(newest + 1)
  }
  const isTaken = (key: KeyRef) => held.some(({ id, fingerprint }) => id === key.id || fingerprint === key.fingerprint)
  return offered
    .filter((key) => !isTaken(key) && hasKey(own.known, key))
    .filter((key) => !sources.unusable.some((it) => sameKey(it.key, key)))
    .filter(({ fingerprint }) => !sources.retired.includes(fingerprint))
    .slice(0, MAX_HELD_KEYS - held.length)
}

/** The oldest key, when it is on its way out, and who keeps it. */
function findRetiring(
  view: RotationView,
  wanted: readonly KeyRef[],
): { readonly quiet: Quiet | undefined; readonly waitingFor: readonly string[] } {
  const [oldest] = wanted
  const newest = wanted.at(-1)
  const { sources, own, now } = view
  const none = { quiet: undefined, waitingFor: [] }
  if (oldest === undefined || newest === undefined) return none
  const counted = view.peers.filter(({ name, words }) => !view.forced.includes(name) && !isSilent(words))
  const isUnlisted = sources.operator && sources.kept.length > 0 && !hasKey(sources.kept, oldest)
  const isForgotten =
    isUnlisted && counted.every(({ words }) => !hasKey(words?.receives, oldest) && !hasKey(words?.sends, oldest))
  if (wanted.length === 1 && !(isForgotten && sources.kept.some(({ id }) => id === oldest.id))) return none
  const waitingFor = isForgotten
    ? []
    : counted
        .filter(({ words }) => !canDoWithout(words as IpsecWords, oldest, isUnlisted ? undefined : newest))
        .map(({ name }) => name)
        .sort()
  const isOwnUse =
    own.said.length === 0 ||
    own.said.some(
      ({ receives, sends }) => hasKey(sends, oldest) || !(isForgotten || sameKey(receives.at(-1), newest)),
    ) ||
    [...own.sending.values()].some((key) => sameKey(key, oldest))
  if (isOwnUse || waitingFor.length > 0) return { quiet: undefined, waitingFor }
  return {
    quiet: { key: oldest, since: sameKey(view.quiet?.key, oldest) ? (view.quiet?.since ?? now) : now },
    waitingFor,
  }
}

/**
 * By promise 2, a peer of these words never sends by `oldest` again, and there is something better for the pair: `newest`.
 * Undefined: whoever has no other will get one, since `oldest` is none that the operator counts on.
 */
function canDoWithout({ receives, sends }: IpsecWords, oldest: KeyRef, newest: KeyRef | undefined): boolean {
  return (
    !hasKey(sends, oldest) && !sameKey(receives.at(-1), oldest) && (newest === undefined || hasKey(receives, newest))
  )
}

/** An agent that runs without any key: it will begin as one that joins does. */
function isSilent(words: IpsecWords | undefined): boolean {
  return words === undefined || (words.receives.length === 0 && words.sends.length === 0)
}

/** The newest key by which a packet to `peer` may leave. Said is installed: also when this agent has just started. */
function sendingKey(view: RotationView, receive: readonly KeyRef[], peer: RotationPeer): KeyRef | undefined {
  const { said } = view.own
  if (said.length === 0 || peer.isNew === true) return undefined
  const isForced = view.forced.includes(peer.name)
  return receive.findLast(
    (key) =>
      hasKey(peer.words?.receives, key) &&
      (!isForced || sameKey(key, receive.at(-1))) &&
      said.every(
        ({ receives, sends }) => hasKey(receives, key) && (hasKey(sends, key) || sameKey(receives.at(-1), key)),
      ),
  )
}

/** What is true now: said as soon as nothing is left to apply. */
function wordsOf(own: RotationOwn, receive: readonly KeyRef[]): IpsecWords {
  const receives = receive.filter((key) => hasKey(own.installed, key))
  const sending = [...own.sending.values()]
  return { receives, sends: receives.filter((key) => hasKey(sending, key)) }
}

function sameKeys(a: readonly KeyRef[], b: readonly KeyRef[]): boolean {
  return a.length === b.length && a.every((key, i) => sameKey(key, b[i]))
}

function sameSending(a: ReadonlyMap<string, KeyRef>, b: ReadonlyMap<string, KeyRef>): boolean {
  return a.size === b.size && [...a].every(([name, key]) => sameKey(key, b.get(name)))
}
