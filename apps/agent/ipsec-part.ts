import { parseForced } from '#core/api/ipsec-secrets.ts'
import type { Datapath, IpsecSettings } from '#core/datapath/datapath.ts'
import { describeFault } from '#core/fault/fault.ts'
import { type IpsecKey, type KeyFingerprint, type KeyRef, sameKey } from '#core/ipsec/key.ts'
import { supportedInUserspace } from '#core/ipsec/userspace.ts'
import { formatIpsecWords, type IpsecWords } from '#core/ipsec/words.ts'
import type { OwnIpsec, Peer } from '#core/plan/snapshot.ts'
import { type Quiet, type Rotation, type RotationView, rotate, type UnusableKey } from '#core/transition/rotation.ts'
import type { RotationProblem } from '#core/transition/rotation-status.ts'
import type { KeyReading } from './key-source.ts'
import type { NodeStateStore } from './node-state.ts'
import { REAL_TIMERS, type Timers } from './worker.ts'

export interface IpsecPartDeps {
  readonly datapath: Datapath
  readonly state: NodeStateStore
  readonly timers?: Timers
  ipsecKeys(): KeyReading
  now(): number
  /** Asks for another run of the loop. */
  wake(): void
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
  readonly #met = new Map<string, { readonly bootId: string | undefined; readonly at: number }>()
  /** Since when others can know this node, by the clock of `#met`. */
  #toldAt: number | undefined
  /** The first look of an agent that finds the device as it had left it. */
  #isAdopting = false
  /** The device is to be asked for its boot id again. */
  #isStale = true

  constructor(deps: IpsecPartDeps) {
    this.#deps = deps
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
    saidBefore: { readonly bootId: string | undefined; readonly words: IpsecWords | undefined },
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
          this.#toldAt = Number.NEGATIVE_INFINITY
          this.#isAdopting = true
        }
      }
    }
    this.#learn()
    const rotation = this.#rotate(peers)
    this.#isAdopting = false
    return {
      bootId: this.#bootId as string,
      receive: rotation.receive,
      words: { receives: rotation.receive, sends: distinct(rotation) },
      sendBy: Object.fromEntries([...rotation.send].sort(([a], [b]) => (a < b ? -1 : 1))),
    }
  }

  /** The datapath has acknowledged what was decided. True: there is more to apply at once. */
  async inForce(peers: readonly Peer[]): Promise<boolean> {
    const last = this.#last
    if (last === undefined) return false
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

  /** They were written, or stand there already. True: that is news, which a next step may follow from. */
  told(words: IpsecWords): boolean {
    const news = this.#toldAt === undefined || this.#said.length !== 1 || this.#last?.step !== 'wait'
    this.#toldAt ??= performance.now()
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
    this.#met.clear()
    this.#toldAt = undefined
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
    const names = new Set(peers.map(({ name }) => name))
    for (const name of this.#met.keys()) if (!names.has(name)) this.#met.delete(name)
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
      // a CiliumNode without its Node is gone from the cluster
      peers: peers
        .filter(({ granted }) => granted !== undefined)
        .map((peer) => ({ name: peer.name, words: peer.ipsec, isNew: this.#isNew(peer, now) })),
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
    const greetAt = [...this.#met.values()].map(({ at }) => this.#greetAt(at)).filter((at) => at > now)
    const wakeAt = Math.min(rotation.wakeAt ?? Number.POSITIVE_INFINITY, ...greetAt)
    if (wakeAt !== Number.POSITIVE_INFINITY) {
      const ms = Math.max(0, Math.ceil(wakeAt - now))
      this.#callOff = (this.#deps.timers ?? REAL_TIMERS).after(ms, () => this.#deps.wake())
    }
    return rotation
  }

  /**
   * A node that is new to this one, or to which this one is new, may not know it yet, and would count what it is greeted by
   * as an error. Receiving from it waits for nothing.
   */
  #isNew({ name, bootId, ipsec }: Peer, now: number): boolean {
    if (ipsec === undefined) return false
    const met = this.#met.get(name)
    if (met !== undefined && met.bootId === bootId) return now < this.#greetAt(met.at)
    // one that was there before this agent is no stranger to the device
    const at = this.#isAdopting ? Number.NEGATIVE_INFINITY : now
    this.#met.set(name, { bootId, at })
    return !this.#isAdopting
  }

  /** Never, before anything was said: that is what wakes then. */
  #greetAt(met: number): number {
    return this.#toldAt === undefined ? Number.POSITIVE_INFINITY : Math.max(met, this.#toldAt) + GREETING_MS
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
/** From when both have said their words until the other is sent to first: in that time it has usually seen ours. */
const GREETING_MS = 1000

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
