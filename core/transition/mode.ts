import {
  type Announcement,
  CLOSED,
  formatAnnouncement,
  type Level,
  parseAnnouncement,
  RECEIVING,
  SENDING,
  sameAnnouncement,
} from './level.ts'
import { firstAnnouncement, nextLevel, type TransitionPeer } from './next-level.ts'

/**
 * Changing a running cluster from WireGuard to IPsec, or back, without losing a packet and without a clear one.
 *
 * It is the ladder of level.ts once more, with WireGuard in the place of clear and IPsec in that of encrypted; the rules and
 * their argument are next-level.ts's. Every node publishes its own stage and epoch (even while WireGuard is asked for, odd
 * while IPsec is) beside its level, always both together, and what it does is the pair of them.
 *
 * | stage | receives by | sends by |
 * |---|---|---|
 * | 0 | WireGuard | WireGuard |
 * | 1 | both | WireGuard |
 * | 2 | both | IPsec to every peer at 1 or above, else WireGuard |
 * | 3 | IPsec | IPsec |
 *
 * Two things are asked for beyond those rules, neither of which safety depends on:
 * - Sending by the other one begins when every node has seen it work with every other (IPsec: heard; WireGuard: a session) and
 *   has said so. So no packet waits for a handshake, and where a firewall lets the new one not through, be it in one direction,
 *   the old one goes on.
 * - The old one goes a second after nobody sends by it: what was in flight has arrived.
 *
 * At level 0 nothing is encrypted, but the stages are gone through all the same. A node that is asked for no encryption and
 * has come to level 0 forgets its stage. Like next-level.ts: persist, apply, publish.
 */
export type EncryptionType = 'wireguard' | 'ipsec'

/** On the CiliumNode: `STAGE.EPOCH`, as of the level, or `STAGE.EPOCH proven`. */
export const MODE_ANNOTATION = 'pellicle.io/encryption-mode'

/** What a node publishes: its stage and epoch. */
export interface ModeWords extends Announcement {
  /** It has seen the one that is changed to work with all others, and would begin to send by it. */
  readonly proven?: boolean
}

const PROVEN = ' proven'

export function formatMode(words: ModeWords): string {
  return `${formatAnnouncement(words)}${words.proven === true ? PROVEN : ''}`
}

/** Undefined when `text` is absent or not of that form. */
export function parseMode(text: string | undefined): ModeWords | undefined {
  const proven = text?.endsWith(PROVEN) === true
  const stage = parseAnnouncement(proven ? text.slice(0, -PROVEN.length) : text)
  return stage === undefined || !proven ? stage : { ...stage, proven }
}

export const ONLY_WIREGUARD = 0
const ONLY_IPSEC = CLOSED

/** What it sends by, where the peer receives by it, comes first. */
export function receivesBy(stage: Level): readonly [EncryptionType, EncryptionType?] {
  if (stage === ONLY_WIREGUARD) return ['wireguard']
  if (stage === ONLY_IPSEC) return ['ipsec']
  return stage === RECEIVING ? ['wireguard', 'ipsec'] : ['ipsec', 'wireguard']
}

/** `peer`: its stage as it was seen last; undefined: none. */
export function sendsBy(own: Level, peer: Level | undefined): EncryptionType {
  if (own === SENDING) return peer === undefined || peer >= RECEIVING ? 'ipsec' : 'wireguard'
  return own === ONLY_IPSEC ? 'ipsec' : 'wireguard'
}

/** The stage of a node that has only that one, such as one that ran before there were stages. */
export function settledIn(type: EncryptionType): Announcement {
  return type === 'ipsec' ? { level: ONLY_IPSEC, epoch: 1 } : { level: ONLY_WIREGUARD, epoch: 0 }
}

/**
 * Where a node begins that has no stage: where the others will end when none of them needs the old one any more, else with
 * both, sending by the old one as they do. Unlike levels neither is better than the other: the rules are alike in both
 * directions.
 */
export function firstMode(wanted: EncryptionType, peers: readonly TransitionPeer[], said?: Announcement): Announcement {
  const { epoch } = firstAnnouncement(wanted === 'ipsec', peers, said)
  const stages = peers.flatMap(({ announcement }) => announcement?.level ?? [])
  if (wanted === 'ipsec') {
    const lowest = Math.min(ONLY_IPSEC, ...stages)
    return { level: lowest >= SENDING ? ONLY_IPSEC : RECEIVING, epoch }
  }
  const highest = Math.max(ONLY_WIREGUARD, ...stages)
  return { level: highest <= RECEIVING ? ONLY_WIREGUARD : SENDING, epoch }
}

export interface ModePeer extends TransitionPeer {
  readonly announcement: ModeWords | undefined
}

export interface ModeView {
  /** ConfigMap; undefined: no encryption is asked for, and nobody changes their mind about its kind. */
  readonly wanted: EncryptionType | undefined
  /** What this node has persisted, applied and published last. */
  readonly own: Announcement
  /** What its own CiliumNode says, in the same watch as `peers`. */
  readonly ownSeen: Announcement | undefined
  /** Why IPsec cannot be received by, such as a missing key; undefined: it can. */
  readonly missing: string | undefined
  readonly peers: readonly ModePeer[]
  /** Peers with which the one that is changed to has not been seen to work. Looked at only where {@link mayBegin}. */
  readonly unproven: readonly string[]
  /** Milliseconds of a clock that never goes back. */
  readonly now: number
  /** {@link ModeChange.quiet} of the last time; losing it costs a second. */
  readonly quiet: ModeQuiet | undefined
}

/** Since when nobody sends by what this node is about to stop receiving by, in that epoch. */
interface ModeQuiet {
  readonly epoch: number
  readonly since: number
}

export interface ModeChange {
  /** Equal to `own` when there is nothing to do now. */
  readonly next: Announcement
  readonly changing: boolean
  /** {@link ModeWords.proven}, to be published. */
  readonly proven: boolean
  /** One line for `status`. */
  readonly text: string
  /** Names of the nodes without which the next step is not taken, sorted. */
  readonly waitingFor: readonly string[]
  readonly quiet: ModeQuiet | undefined
  /** When to ask again though nothing has changed. */
  readonly wakeAt: number | undefined
}

/** Milliseconds in which a packet that has left is received, or never. */
const FLIGHT_TIME = 1000
/** Milliseconds between two looks at whether the new one works. */
const PROOF_PERIOD = 200

/** This node is at the step that asks for {@link ModeView.unproven}. */
export function mayBegin(wanted: EncryptionType | undefined, own: Announcement): boolean {
  return own.level === (isIpsecWanted(wanted, own) ? RECEIVING : SENDING)
}

export function nextMode(view: ModeView): ModeChange {
  const { own, now } = view
  const wanted = isIpsecWanted(view.wanted, own)
  const step = nextLevel({ ...view, wanted, receiving: view.missing === undefined })
  const changing = own.level !== (wanted ? ONLY_IPSEC : ONLY_WIREGUARD)
  const still = { next: own, changing, proven: false, quiet: undefined, wakeAt: undefined }
  const say = (waitingFor: readonly string[], why = '') => ({
    waitingFor,
    text: describe(wanted, own, waitingFor, why),
  })
  const same = sameAnnouncement(step.next, own)
  if (same && changing && own.level === ONLY_WIREGUARD && view.missing !== undefined) {
    return { ...still, ...say([], view.missing) }
  }
  if (same || step.next.level === own.level) return { ...still, ...say(step.waitingFor), next: step.next }
  if (mayBegin(view.wanted, own)) {
    const unproven = [...view.unproven].sort()
    if (unproven.length > 0) {
      return { ...still, ...say(unproven, 'nothing has come from there by it'), wakeAt: now + PROOF_PERIOD }
    }
    // those that have begun had seen it
    const silent = view.peers.filter(({ announcement: peer }) => peer?.level === own.level && peer.proven !== true)
    const waitingFor = silent.map(({ name }) => name).sort()
    if (waitingFor.length > 0)
      return { ...still, ...say(waitingFor, 'not everything has come there by it'), proven: true }
  }
  if (step.next.level === ONLY_IPSEC || step.next.level === ONLY_WIREGUARD) {
    const quiet = view.quiet?.epoch === own.epoch ? view.quiet : { epoch: own.epoch, since: now }
    const wakeAt = quiet.since + FLIGHT_TIME
    if (now < wakeAt) return { ...still, ...say([]), quiet, wakeAt }
  }
  return { ...still, ...say([]), next: step.next }
}

function isIpsecWanted(wanted: EncryptionType | undefined, { epoch }: Announcement): boolean {
  return wanted === undefined ? epoch % 2 === 1 : wanted === 'ipsec'
}

const NAMES = { wireguard: 'WireGuard', ipsec: 'IPsec' } as const

function describe(toIpsec: boolean, { level }: Announcement, waitingFor: readonly string[], why: string): string {
  const [from, to] = toIpsec ? [NAMES.wireguard, NAMES.ipsec] : [NAMES.ipsec, NAMES.wireguard]
  const steps = toIpsec ? level : ONLY_IPSEC - level
  if (steps === 3) return `encrypting by ${to}`
  const doing = [
    `about to receive by ${to} too`,
    `still sending by ${from} until every node receives by ${to}`,
    `sending by ${to}, ${from} goes when every node does`,
  ][steps]
  const some = waitingFor.slice(0, 3).join(', ') + (waitingFor.length > 3 ? ` and ${waitingFor.length - 3} more` : '')
  const notes = [...(waitingFor.length === 0 ? [] : [`waiting for ${some}`]), ...(why === '' ? [] : [why])]
  const note = notes.length === 0 ? '' : ` (${notes.join(': ')})`
  return `changing from ${from} to ${to}, step ${steps + 1} of 3: ${doing}${note}`
}
