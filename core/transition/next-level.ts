import { type Announcement, CLEAR, CLOSED, EPOCH_REACH, type Level, RECEIVING, SENDING } from './level.ts'

/**
 * Turning encryption on and off on a running cluster without losing a packet and, once closed, without a clear one.
 *
 * No clock and no coordinator: a node takes a step that takes something away (stops receiving clear, stops receiving
 * encrypted, stops sending encrypted) only when every other node has announced, in the same epoch, that it does not need
 * it. Steps that only add something wait for nobody. docs/adr/0004-steering.md has the argument; transition.test.ts
 * searches for a counterexample.
 *
 * What the caller owes, in this order, for each step: persist `next`, apply the plan of the snapshot with it, have the
 * datapath acknowledge, publish it. After a restart: apply what is persisted, then publish it.
 */
export interface TransitionView {
  /** ConfigMap: encryption is asked for. */
  readonly wanted: boolean
  /** What this node has persisted, applied and published last. */
  readonly own: Announcement
  /** What this node's own CiliumNode says, in the same watch as `peers`; steps wait until it is `own`. */
  readonly ownSeen: Announcement | undefined
  /** The datapath has acknowledged device and peers, so encrypted packets would be received from now on. */
  readonly receiving: boolean
  readonly peers: readonly TransitionPeer[]
  /** Names of peers to whom this node could not send encrypted yet: before it says that it does, it waits for them. */
  readonly unsendable?: readonly string[] | undefined
}

export interface TransitionPeer {
  readonly name: string
  /** Undefined: its agent has never run. Nobody waits for it; it begins by {@link firstAnnouncement} when it does. */
  readonly announcement: Announcement | undefined
}

export interface Transition {
  /** Equal to `own` when there is nothing to do now. */
  readonly next: Announcement
  readonly phase: 'off' | 'turning on' | 'on' | 'turning off'
  /** One line for `status`. */
  readonly text: string
  /** Names of the nodes without which the next step is not taken, sorted. */
  readonly waitingFor: readonly string[]
}

/**
 * Where a node begins that has nothing persisted (each boot), so that it fits to those that are there, in the middle of a
 * change too. `said`: what its own CiliumNode still says.
 *
 * Closed where it was closed before, or where a peer is in the same epoch: nobody closes before all others send
 * encrypted, so one that is behind is stale or lying, and must not bring this node to speak in clear.
 */
export function firstAnnouncement(
  wanted: boolean,
  peers: readonly TransitionPeer[],
  said?: Announcement,
): Announcement {
  const announced = peers.flatMap(({ announcement }) => announcement ?? [])
  const lowest = Math.min(CLOSED, ...announced.map(({ level }) => level))
  const highest = Math.max(CLEAR, ...announced.map(({ level }) => level))
  const epoch = nextEpoch(wanted, undefined, said === undefined ? announced : [said, ...announced])
  const isClosed = said?.level === CLOSED || announced.some((peer) => peer.level === CLOSED && peer.epoch === epoch)
  if (wanted && isClosed) return { level: CLOSED, epoch }
  // wanted: closed where nobody sends in clear any more; else both ways as far as the others are
  if (wanted) return { level: lowest >= SENDING ? CLOSED : lowest === RECEIVING ? SENDING : RECEIVING, epoch }
  return { level: Math.min(highest, SENDING) as Level, epoch }
}

export function nextLevel(view: TransitionView): Transition {
  const { wanted, own } = view
  const announced = view.peers.flatMap(({ name, announcement }) =>
    announcement === undefined ? [] : [{ name, ...announcement }],
  )
  const epoch = nextEpoch(wanted, own.epoch, announced)
  const { to, needs } = (wanted ? STEP_UP : STEP_DOWN)[own.level]
  const unsendable = new Set(to === SENDING && own.level === RECEIVING ? view.unsendable : [])
  const waitingFor = announced
    .filter((peer) => needs !== undefined && (peer.epoch !== epoch || !needs(peer.level) || unsendable.has(peer.name)))
    .map(({ name }) => name)
    .sort()
  const seen = view.ownSeen?.level === own.level && view.ownSeen.epoch === own.epoch
  let next = own
  // The change of mind is published by itself: with it, the others know where this node stood when it changed it.
  if (epoch !== own.epoch) next = { level: own.level, epoch }
  else if (to !== own.level && seen && waitingFor.length === 0 && (own.level !== CLEAR || view.receiving)) {
    next = { level: to, epoch }
  }
  return {
    next,
    ...describe(wanted, own.level, announced.length - waitingFor.length, announced.length, waitingFor),
    waitingFor,
  }
}

/**
 * Smallest that fits the wish, is not below one's own, and joins others of the same wish or overtakes those of the other.
 * Those out of reach are left alone; `status` names them, as all that are waited for.
 */
function nextEpoch(wanted: boolean, own: number | undefined, peers: readonly Announcement[]): number {
  const parity = wanted ? 1 : 0
  const settled = own !== undefined && own % 2 === parity
  const epochs = peers.map(({ epoch }) => epoch).sort((a, b) => a - b)
  let reach = own ?? epochs[0] ?? 0
  let floor = own ?? 0
  for (const epoch of epochs) {
    if (epoch > reach + EPOCH_REACH) break
    reach = Math.max(reach, epoch)
    if (!settled || epoch % 2 === parity) floor = Math.max(floor, epoch)
  }
  return floor % 2 === parity ? floor : floor + 1
}

interface StepRule {
  readonly to: Level
  /** What every other node must have reached, in the same epoch; undefined: this step waits for nobody. */
  readonly needs: ((level: Level) => boolean) | undefined
}

const STEP_UP: Readonly<Record<Level, StepRule>> = {
  [CLEAR]: { to: RECEIVING, needs: undefined },
  [RECEIVING]: { to: SENDING, needs: (peer) => peer >= RECEIVING },
  [SENDING]: { to: CLOSED, needs: (peer) => peer >= SENDING },
  [CLOSED]: { to: CLOSED, needs: undefined },
}

const STEP_DOWN: Readonly<Record<Level, StepRule>> = {
  [CLOSED]: { to: SENDING, needs: undefined },
  [SENDING]: { to: RECEIVING, needs: (peer) => peer <= SENDING },
  [RECEIVING]: { to: CLEAR, needs: (peer) => peer <= RECEIVING },
  [CLEAR]: { to: CLEAR, needs: undefined },
}

function describe(
  wanted: boolean,
  level: Level,
  ready: number,
  peers: number,
  waitingFor: readonly string[],
): Pick<Transition, 'phase' | 'text'> {
  if (wanted && level === CLOSED)
    return { phase: 'on', text: 'closed: pod traffic between nodes is encrypted or dropped' }
  if (!wanted && level === CLEAR) return { phase: 'off', text: 'off: pod traffic between nodes is in clear' }
  const doing = wanted ? UP[level] : DOWN[level]
  const some = waitingFor.slice(0, 3).join(', ') + (waitingFor.length > 3 ? ` and ${waitingFor.length - 3} more` : '')
  const whom = waitingFor.length === 0 ? '' : ` (${ready} of ${peers} other nodes have, waiting for ${some})`
  return { phase: wanted ? 'turning on' : 'turning off', text: `${doing}${whom}` }
}

const UP: Record<Level, string> = {
  0: 'turning on, step 1 of 3: installing receivers',
  1: 'turning on, step 2 of 3: still sending in clear until every node can receive',
  2: 'turning on, step 3 of 3: sending encrypted, closing when every node does',
  3: '',
}

const DOWN: Record<Level, string> = {
  3: 'turning off, step 1 of 3: about to receive clear packets again',
  2: 'turning off, step 2 of 3: still sending encrypted until every node receives clear packets',
  1: 'turning off, step 3 of 3: sending in clear, removing receivers when every node does',
  0: '',
}
