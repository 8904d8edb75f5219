import type { CiliumNode } from '#core/api/cilium-node.ts'
import { parseForced } from '#core/api/ipsec-secrets.ts'
import type { Datapath, IpsecPeer, IpsecSettings } from '#core/datapath/datapath.ts'
import { describeFault } from '#core/fault/fault.ts'
import { type IpsecKey, type KeyFingerprint, type KeyRef, sameKey } from '#core/ipsec/key.ts'
import { supportedInUserspace } from '#core/ipsec/userspace.ts'
import { formatIpsecWords, type IpsecWords } from '#core/ipsec/words.ts'
import type { OwnIpsec, Peer } from '#core/plan/snapshot.ts'
import {
  Greeting,
  type Look,
  parseReading,
  parseVersion,
  READING_ANNOTATION,
  type Reading,
  type Stranger,
} from '#core/transition/greeting.ts'
import { type Quiet, type Rotation, type RotationView, rotate, type UnusableKey } from '#core/transition/rotation.ts'
import type { RotationProblem } from '#core/transition/rotation-status.ts'
import type { KeyReading } from './key-source.ts'
import type { NodeStateStore } from './node-state.ts'
import { REAL_TIMERS, type Timers } from './worker.ts'

export interface IpsecPartDeps {
  readonly nodeName: string
  readonly datapath: Datapath
  readonly state: NodeStateStore
  readonly timers?: Timers
  ipsecKeys(): KeyReading
  now(): number
  /** Asks for another run of the loop. */
  wake(): void
}

/** As the watch shows it: what a decision is made of. */
export interface SeenNodes {
  /** All, one's own included. */
  readonly ciliumNodes: readonly CiliumNode[]
  /** `metadata.resourceVersion` up to which that is complete. */
  readonly version: string | undefined
}

/** What its own CiliumNode says. */
export interface SaidBefore {
  readonly bootId: string | undefined
  readonly words: IpsecWords | undefined
}

/** For status. */
export interface RotationReport extends Pick<Rotation, 'phase' | 'text' | 'waitingFor'> {
  /** Milliseconds since the epoch; while more than one key is held. */
  readonly since: number | undefined
  readonly problems: readonly RotationProblem[]
}

/**
 * What one node does with IPsec keys: joins the rules of core/transition/rotation.ts to the datapath's boot id, the keys
 * that were read and the words that were written. One step at a time: {@link decide}, applied, {@link inForce}; then
 * {@link words} are written between {@link tell} and {@link told}.
 */
export class IpsecPart {
  readonly #deps: IpsecPartDeps
  #bootId: string | undefined
  /** Under which everything below was done. */
  #known = new Map<string, IpsecKey>()
  #said: readonly IpsecWords[] = []
  #installed: readonly KeyRef[] | undefined
  #sending: ReadonlyMap<string, KeyRef> = new Map()
  #quiet: Quiet | undefined
  /** Let go, and not yet written down: a file system may be full. */
  #retiring: readonly KeyFingerprint[] = []
  #last: Rotation | undefined
  #since: number | undefined
  #callOff: (() => void) | undefined
  #greeting: Greeting
  #look: Look | undefined
  #seen: SeenNodes = { ciliumNodes: [], version: undefined }
  /** Boot ids by which the datapath receives from nodes. */
  #receivedFrom: ReadonlyMap<string, string> = new Map()
  /** Nodes that something has come from. */
  #heard: ReadonlySet<string> = new Set()
  #reading: Reading | undefined
  /** The device is to be asked for its boot id again. */
  #isStale = true

  constructor(deps: IpsecPartDeps) {
    this.#deps = deps
    this.#greeting = new Greeting(deps.nodeName)
  }

  /** Those that {@link OwnIpsec} refers to. */
  get keys(): readonly IpsecKey[] {
    return [...this.#known.values()]
  }

  get rotation(): RotationReport | undefined {
    if (this.#last === undefined) return undefined
    const { phase, text, waitingFor, problems } = this.#last
    return { phase, text, waitingFor, problems, since: this.#since }
  }

  /** What is to be said now; undefined: nothing may be said yet. */
  get words(): IpsecWords | undefined {
    return this.#last?.step === 'apply' ? this.#said.at(-1) : this.#last?.words
  }

  /** Up to where this node receives from all others; `isNews`: somebody waits for it to be said. */
  get reading(): { readonly now: Reading | undefined; readonly isNews: boolean } {
    return { now: this.#reading, isNews: this.#look?.sayAgain === true }
  }

  /** Something may have changed behind our back. */
  forget(): void {
    this.#isStale = true
  }

  /** There is no device any more, and none is asked for. */
  end(): void {
    this.#begin(undefined)
    this.#known.clear()
  }

  /** A sentence on what is missing; undefined: there is a key to begin with. */
  missing(): string | undefined {
    const { complete, current, kept, problem } = this.#deps.ipsecKeys()
    if (this.#known.size > 0) return undefined
    if (!complete) return 'the Secrets with the IPsec keys have not been read yet'
    if (current !== undefined || kept.length > 0) return undefined
    return problem === undefined ? 'there is no IPsec key' : describeFault(problem)
  }

  /**
   * What this node is to do now, or a sentence on what is missing. `saidBefore`: what its own CiliumNode says, with its boot id.
   * Rejects with a Fault of the datapath's.
   */
  async decide(
    peers: readonly Peer[],
    settings: () => IpsecSettings,
    saidBefore: SaidBefore,
    seen: SeenNodes,
  ): Promise<OwnIpsec | string> {
    const missing = this.missing()
    if (missing !== undefined) return missing
    if (this.#bootId === undefined || this.#isStale) {
      const first = this.#bootId === undefined
      const bootId = await this.#open(settings())
      if (bootId !== this.#bootId) {
        this.#begin(bootId)
        if (first && saidBefore.bootId === bootId && saidBefore.words !== undefined) {
          this.#said = [saidBefore.words]
          const own = seen.ciliumNodes.find(({ metadata }) => metadata.name === this.#deps.nodeName)?.metadata
          this.#greeting.adopt(parseVersion(own?.resourceVersion), readingOf(own))
        }
      }
    }
    this.#learn()
    this.#seen = seen
    await this.#hear(settings, peers)
    const rotation = this.#rotate(peers)
    return {
      bootId: this.#bootId as string,
      receive: rotation.receive,
      words: { receives: rotation.receive, sends: distinct(rotation) },
      sendBy: Object.fromEntries([...rotation.send].sort(([a], [b]) => (a < b ? -1 : 1))),
    }
  }

  /** The datapath has acknowledged what was decided, with those peers. True: there is more to apply at once. */
  async inForce(peers: readonly Peer[], applied: readonly Pick<IpsecPeer, 'node' | 'bootId'>[]): Promise<boolean> {
    const last = this.#last
    if (last === undefined) return false
    this.#receivedFrom = new Map(applied.map(({ node, bootId }) => [node, bootId]))
    const version = parseVersion(this.#seen.version)
    const without = peers
      .filter((peer) => peer.ipsec !== undefined && !this.#receivesFrom(peer))
      .map(({ name }) => name)
    this.#reading = version === undefined ? undefined : { version, without: without.sort() }
    const gone = (this.#installed ?? []).filter((key) => !has(last.receive, key))
    this.#installed = last.receive
    this.#sending = last.send
    this.#retiring = [...this.#retiring, ...gone.map(({ fingerprint }) => fingerprint)]
    if (this.#retiring.length > 0) await this.#retire()
    return this.#rotate(peers).step === 'apply'
  }

  /** Others may see `words` from now on. */
  tell(words: IpsecWords): void {
    const last = this.#said.at(-1)
    if (last === undefined || formatIpsecWords(last) !== formatIpsecWords(words)) this.#said = [...this.#said, words]
  }

  /**
   * They were written, with that reading, or stand there already; `version`: of the CiliumNode by then. True: that is news,
   * which a next step may follow from.
   */
  told(words: IpsecWords, reading: Reading | undefined, version: string | undefined): boolean {
    const news = !this.#greeting.isTold || this.#said.length !== 1 || this.#last?.step !== 'wait'
    this.#greeting.told(performance.now(), parseVersion(version), reading)
    this.#said = [words]
    return news
  }

  /** While the datapath is away the rest of a plan can be brought about all the same: pods come and go. */
  async #open(settings: IpsecSettings): Promise<string> {
    try {
      const { bootId } = await this.#deps.datapath.openIpsec(settings)
      this.#isStale = false
      return bootId
    } catch (error) {
      if (this.#bootId === undefined) throw error
      return this.#bootId
    }
  }

  #begin(bootId: string | undefined): void {
    this.#callOff?.()
    this.#bootId = bootId
    this.#said = []
    this.#installed = undefined
    this.#sending = new Map()
    this.#quiet = undefined
    this.#greeting = new Greeting(this.#deps.nodeName)
    this.#look = undefined
    this.#receivedFrom = new Map()
    this.#heard = new Set()
    this.#reading = undefined
    this.#last = undefined
    this.#since = undefined
    this.#isStale = bootId === undefined
  }

  /** Keys that nobody lists any more stay known for as long as this node receives by them. */
  #learn(): void {
    const { current, kept } = this.#deps.ipsecKeys()
    const next = new Map<string, IpsecKey>()
    for (const key of [...kept, ...(current ?? [])]) next.set(idOf(key), this.#known.get(idOf(key)) ?? key)
    for (const [id, key] of this.#known) {
      if (next.has(id)) continue
      if (has(this.#installed ?? [], key)) next.set(id, key)
      else wipe(key)
    }
    this.#known = next
  }

  #rotate(peers: readonly Peer[]): Rotation {
    const reading = this.#deps.ipsecKeys()
    const now = performance.now()
    // a CiliumNode without its Node is gone from the cluster
    const there = peers.filter(({ granted }) => granted !== undefined)
    const look = this.#greeting.look(this.#strangers(there), this.#reading, now)
    this.#look = look
    const view: RotationView = {
      sources: {
        kept: reading.kept.map(refOf),
        retired: reading.operator
          ? reading.retired.map(({ fingerprint }) => fingerprint)
          : [...(this.#deps.state.value.retiredKeys ?? []), ...this.#retiring],
        user: reading.problem === undefined ? (reading.current ?? []).map(refOf) : [],
        operator: reading.operator,
        isKeeping: reading.isKeeping,
        unusable: [...this.#known.values()].flatMap(unusable),
      },
      own: {
        known: [...this.#known.values()].map(refOf),
        said: this.#said,
        installed: this.#installed,
        sending: this.#sending,
      },
      peers: there.map(({ name, ipsec }) => ({
        name,
        words: ipsec,
        isNew: ipsec !== undefined && !look.known.has(name),
      })),
      forced: parseForced(reading.forced, reading.kept.at(-1)),
      now,
      quiet: this.#quiet,
    }
    const rotation = rotate(view)
    this.#last = rotation
    this.#quiet = rotation.quiet
    this.#since = rotation.phase === 'rotating' ? (this.#since ?? this.#deps.now()) : undefined
    this.#callOff?.()
    this.#callOff = undefined
    // nobody tells when something comes from a peer
    const greetAt = look.wakeAt === undefined ? Number.POSITIVE_INFINITY : Math.min(look.wakeAt, now + HEARD_PERIOD)
    const wakeAt = Math.min(rotation.wakeAt ?? Number.POSITIVE_INFINITY, greetAt)
    if (wakeAt !== Number.POSITIVE_INFINITY) {
      const ms = Math.max(0, Math.ceil(wakeAt - now))
      this.#callOff = (this.#deps.timers ?? REAL_TIMERS).after(ms, () => this.#deps.wake())
    }
    return rotation
  }

  /** Others that have said words; of those that are known already no more than that. */
  #strangers(peers: readonly Peer[]): Stranger[] {
    const said = peers.filter(({ ipsec }) => ipsec !== undefined)
    const isAnyNew = said.some((peer) => !this.#greeting.isKnown(peer))
    const objects = new Map(isAnyNew ? this.#seen.ciliumNodes.map((node) => [node.metadata.name, node.metadata]) : [])
    return said.map((peer) => {
      const metadata = objects.get(peer.name)
      return {
        name: peer.name,
        bootId: peer.bootId,
        version: parseVersion(metadata?.resourceVersion),
        reading: readingOf(metadata),
        heard: this.#heard.has(peer.name) && this.#receivesFrom(peer),
      }
    })
  }

  /** Asked only while somebody is waited for: what has come is told for each boot id by which it is received. */
  async #hear(settings: () => IpsecSettings, peers: readonly Peer[]): Promise<void> {
    this.#heard = new Set()
    if (!this.#greeting.isWaiting(peers.filter(({ ipsec }) => ipsec !== undefined))) return
    try {
      const state = await this.#deps.datapath.observeIpsec(settings().name)
      this.#heard = new Set(state?.peers.flatMap(({ node, heard }) => (heard && node !== undefined ? [node] : [])))
    } catch {
      // what is applied next tells why
    }
  }

  #receivesFrom({ name, bootId }: Peer): boolean {
    return bootId !== undefined && this.#receivedFrom.get(name) === bootId
  }

  /** Where no operator remembers it for all, this node does for itself. */
  async #retire(): Promise<void> {
    const { state } = this.#deps
    const before = state.value.retiredKeys ?? []
    const added = this.#retiring
    const news = [...new Set(added)].filter((fingerprint) => !before.includes(fingerprint))
    await state.change({ retiredKeys: [...before, ...news].slice(-MOST_RETIRED) })
    this.#retiring = this.#retiring.slice(added.length)
  }
}

const MOST_RETIRED = 1000
/** Milliseconds between two looks whether something has come from a node that is new. */
const HEARD_PERIOD = 100

function readingOf(metadata: CiliumNode['metadata'] | undefined): Reading | undefined {
  return parseReading(metadata?.annotations?.[READING_ANNOTATION])
}

function distinct({ receive, send }: Rotation): readonly KeyRef[] {
  const used = [...send.values()]
  return receive.filter((key) => used.some((one) => sameKey(one, key)))
}

function unusable(key: IpsecKey): UnusableKey[] {
  const support = supportedInUserspace(key)
  return support.supported ? [] : [{ key: refOf(key), missing: support.missing, remedy: support.remedy }]
}

/** What may leave here: decisions go into snapshots, plans and status, which hold no key. */
function refOf({ id, fingerprint }: KeyRef): KeyRef {
  return { id, fingerprint }
}

function has(keys: readonly KeyRef[], key: KeyRef): boolean {
  return keys.some((one) => sameKey(one, key))
}

function idOf({ id, fingerprint }: KeyRef): string {
  return `${id}:${fingerprint}`
}

function wipe({ encryptionKey, authenticationKey }: IpsecKey): void {
  encryptionKey.fill(0)
  authenticationKey.fill(0)
}
