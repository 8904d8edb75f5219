import { type CiliumNode, readCiliumNode } from '#core/api/cilium-node.ts'
import type { AgentConfig } from '#core/api/config.ts'
import type { Datapath } from '#core/datapath/datapath.ts'
import { type Announcement, CLEAR, sameAnnouncement } from '#core/transition/level.ts'
import {
  type EncryptionType,
  firstMode,
  type ModeChange,
  type ModeWords,
  mayBegin,
  nextMode,
  ONLY_WIREGUARD,
  settledIn,
} from '#core/transition/mode.ts'
import { parsePublicKey } from '#core/wireguard/key.ts'
import type { Applied } from './network.ts'
import type { NodeStateStore } from './node-state.ts'
import { type EncryptionMode, modeAt, modeOf } from './plan-config.ts'
import { REAL_TIMERS, type Timers } from './worker.ts'

export interface ModePartDeps {
  readonly datapath: Datapath
  readonly state: NodeStateStore
  readonly timers?: Timers
  /** Asks for another decision. */
  wake(): void
}

/** What this node does now, and what it follows from; both undefined: nothing, and nothing is asked for. */
export interface OwnMode {
  readonly stage: Announcement | undefined
  readonly mode: EncryptionMode | undefined
}

export interface ModeQuestion {
  readonly config: AgentConfig
  /** Persisted, applied and published. */
  readonly own: Announcement | undefined
  /** What this node's CiliumNode said in the view that `applied` was made of. */
  readonly ownSeen: Announcement | undefined
  readonly applied: Applied
  /** Why IPsec cannot be received by. Asked only before that begins. */
  readonly missing: () => Promise<string | undefined>
}

/** A session of WireGuard is given up after three minutes (REJECT_AFTER_TIME). */
const SESSION_MS = 180_000

/** Between WireGuard and IPsec: joins the rules of core/transition/mode.ts to what is remembered and to the datapath. */
export class ModePart {
  readonly #deps: ModePartDeps
  #change: ModeChange | undefined
  /** Of which stage {@link ModeChange.proven} was said. */
  #provenAt: Announcement | undefined
  #callOff: (() => void) | undefined

  constructor(deps: ModePartDeps) {
    this.#deps = deps
  }

  /** As it was decided last; undefined: there is no mode. */
  get change(): ModeChange | undefined {
    return this.#change
  }

  /** What is to be published of a stage that is in force. */
  wordsOf(stage: Announcement | undefined): ModeWords | undefined {
    if (stage === undefined || !sameAnnouncement(stage, this.#provenAt)) return stage
    return { ...stage, proven: true }
  }

  /** What this node is to be now; a node that has no stage and needs one begins. */
  async current(
    config: AgentConfig,
    level: Announcement,
    name: string,
    ciliumNodes: readonly CiliumNode[],
  ): Promise<OwnMode> {
    const { state } = this.#deps
    const wish = modeOf(config)
    if (wish === undefined && level.level === CLEAR) {
      await state.change({ mode: undefined, stage: undefined })
      return { mode: undefined, stage: undefined }
    }
    const { mode: before, stage: known } = state.value
    // of a configuration that asks for WireGuard the shape says nothing
    const shape = (wish?.type === 'ipsec' ? wish : (before ?? wish))?.shape ?? 'udp'
    const stage = known ?? first(wish?.type, before, name, ciliumNodes)
    const mode = modeAt(stage, shape)
    if (known === undefined) await state.change({ stage, mode: { type: mode.type, shape } })
    else if (before?.shape !== shape) await state.change({ mode: { type: mode.type, shape } })
    return { stage, mode }
  }

  /** The next step; equal to `own` when there is none now. Rejects with a Fault when the datapath cannot be asked. */
  async decide({ config, own, ownSeen, applied, missing }: ModeQuestion): Promise<ModeChange | undefined> {
    this.#callOff?.()
    this.#callOff = undefined
    if (own === undefined) {
      this.#change = undefined
      return undefined
    }
    const wanted = modeOf(config)?.type
    const now = performance.now()
    const change = nextMode({
      wanted,
      own,
      ownSeen,
      missing: wanted === 'ipsec' && own.level === ONLY_WIREGUARD ? await missing() : undefined,
      peers: applied.snapshot.peers.map(({ name, mode }) => ({ name, announcement: mode })),
      unproven: mayBegin(wanted, own) ? await this.#unproven(applied) : [],
      now,
      quiet: this.#change?.quiet,
    })
    this.#change = change
    const provenAt = change.proven ? own : undefined
    // published by the next run
    if (!sameAnnouncement(provenAt, this.#provenAt)) this.#deps.wake()
    this.#provenAt = provenAt
    if (change.wakeAt !== undefined) {
      const ms = Math.max(0, Math.ceil(change.wakeAt - now))
      this.#callOff = (this.#deps.timers ?? REAL_TIMERS).after(ms, () => this.#deps.wake())
    }
    return change
  }

  close(): void {
    this.#callOff?.()
  }

  /** Names of peers from which nothing has come yet by the one that is changed to. */
  async #unproven({ snapshot, plan }: Applied): Promise<readonly string[]> {
    const { datapath } = this.#deps
    if (snapshot.config.encryption.type === 'wireguard') {
      if (plan.ipsec === undefined) return []
      const state = await datapath.observeIpsec(plan.ipsec.name)
      const heard = new Set(state?.peers.filter((peer) => peer.heard).map(({ node }) => node))
      return plan.ipsec.peers.map(({ node }) => node).filter((node) => !heard.has(node))
    }
    if (plan.wireguard === undefined) return []
    const state = await datapath.observe(plan.wireguard.name)
    const now = Date.now()
    // one that seems to be yet to come was made before the clock was set back: nobody knows when; a second is rounding
    const alive = new Set(
      state?.peers
        .filter(({ lastHandshake = 0 }) => lastHandshake > now - SESSION_MS && lastHandshake < now + 1000)
        .map(({ publicKey }) => publicKey),
    )
    const planned = new Set(plan.wireguard.peers.map(({ publicKey }) => publicKey))
    return snapshot.peers.flatMap(({ name, publicKeyText }) => {
      const key = parsePublicKey(publicKeyText ?? '')
      return key !== undefined && planned.has(key) && !alive.has(key) ? name : []
    })
  }
}

function first(
  wanted: EncryptionType | undefined,
  before: EncryptionMode | undefined,
  name: string,
  ciliumNodes: readonly CiliumNode[],
): Announcement {
  // an agent from before there were stages had only one
  if (before !== undefined) return settledIn(before.type)
  const said = ciliumNodes.map((node) => readCiliumNode(node))
  const peers = said.filter((node) => node.name !== name).map((node) => ({ name: node.name, announcement: node.mode }))
  const own = said.find((node) => node.name === name)?.mode
  const latest = peers.reduce((most, { announcement }) => Math.max(most, announcement?.epoch ?? 0), 0)
  return firstMode(wanted ?? (latest % 2 === 1 ? 'ipsec' : 'wireguard'), peers, own)
}
