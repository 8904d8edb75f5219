/**
 * Who of two nodes that have not met sends first by IPsec, so that nothing arrives where there is no association for it yet
 * (the receiver counts that as `XfrmInNoStates`, which is to be 0). Pure bookkeeping of one node, for one boot id of its own.
 *
 * All CiliumNodes are in one store with one counter, of which `metadata.resourceVersion` is the value.
 * With its words a node says how far it had read when what it receives by was installed for all that it had read of: its
 * *reading*. It costs nothing, for it is written when something else is. So whoever's boot id stood there before that
 * version knows that it is received from, and goes first; the other follows when it has heard it.
 *
 * Of two that began at the same time neither may have read the other's. Then the one with the smaller name says its
 * reading again, and the other goes first.
 *
 * Where that is not to be had (a release from before, versions that are no numbers, an agent that was started in between) a
 * node waits for some time, and goes then: what would be lost is one dummy packet.
 */

/** On the CiliumNode: `VERSION`, or `VERSION without NODE,NODE`. */
export const READING_ANNOTATION = 'pellicle.io/ipsec-read'

/** Up to where a node receives from all others. */
export interface Reading {
  readonly version: bigint
  /** Nodes that have said words by then, and yet have no association, such as one whose Node is not known. Sorted. */
  readonly without: readonly string[]
}

/** Milliseconds; since both have said their words. */
export const LEAST_PATIENCE = 1000
export const PATIENCE = 5000

/** Of a peer that has said words. */
export interface Stranger extends Named {
  /** Of its CiliumNode; undefined: it is no number. */
  readonly version: bigint | undefined
  readonly reading: Reading | undefined
  /** Something authenticated has come from it under this boot id. */
  readonly heard: boolean
}

export interface Look {
  /** Why each may be sent to; those that may not are left out. */
  readonly known: ReadonlyMap<string, 'here before' | 'has read' | 'heard' | 'waited'>
  /** This node's reading is to be said again, be it alone. */
  readonly sayAgain: boolean
  /** When to look again though nothing has changed. */
  readonly wakeAt: number | undefined
}

/** A node under one boot id. */
interface Named {
  readonly name: string
  readonly bootId?: string | undefined
}

interface Met {
  readonly bootId: string | undefined
  readonly at: number
  /** At which its words were seen first: they were there at that version. */
  readonly version: bigint | undefined
  why: 'here before' | 'has read' | 'heard' | 'waited' | undefined
}

export class Greeting {
  readonly #name: string
  readonly #met = new Map<string, Met>()
  /** Since when others can know this node, by the clock of {@link look}; undefined: not yet. */
  #toldAt: number | undefined
  /** At which this node's boot id was there. */
  #version: bigint | undefined
  #reading: Reading | undefined
  #isAdopting = false

  constructor(name: string) {
    this.#name = name
  }

  /** This node's words were there before its agent: so were those peers that the next look shows. */
  adopt(version: bigint | undefined, reading: Reading | undefined): void {
    this.#toldAt = Number.NEGATIVE_INFINITY
    this.#version = version
    this.#reading = reading
    this.#isAdopting = true
  }

  get isTold(): boolean {
    return this.#toldAt !== undefined
  }

  /** Its words are written. `version`: of its CiliumNode by then. */
  told(now: number, version: bigint | undefined, reading: Reading | undefined): void {
    this.#toldAt ??= now
    this.#version ??= version
    // a watch may show what was said before that
    if (reading !== undefined && reading.version >= (this.#reading?.version ?? 0n)) this.#reading = reading
  }

  /** Nothing of it is looked at any more. */
  isKnown(peer: Named): boolean {
    return this.#metAs(peer)?.why !== undefined
  }

  /** Some of `peers` may still be met; before anything was told nobody can be. */
  isWaiting(peers: readonly Named[]): boolean {
    return this.isTold && !this.#isAdopting && peers.some((peer) => !this.isKnown(peer))
  }

  /**
   * `peers`: all that have said words; `could`: what this node could say now; `now`: milliseconds of a clock that never goes
   * back.
   */
  look(peers: readonly Stranger[], could: Reading | undefined, now: number): Look {
    const names = new Set(peers.map(({ name }) => name))
    for (const name of this.#met.keys()) if (!names.has(name)) this.#met.delete(name)
    const known = new Map<string, NonNullable<Met['why']>>()
    let sayAgain = false
    let wakeAt = Number.POSITIVE_INFINITY
    for (const peer of peers) {
      let met = this.#metAs(peer)
      if (met === undefined) {
        const { bootId, version } = peer
        met = { bootId, version, at: now, why: this.#isAdopting ? 'here before' : undefined }
        this.#met.set(peer.name, met)
      }
      const until = this.#patience(met, peer)
      met.why ??= this.#toldAt === undefined ? undefined : this.#why(peer, until <= now)
      if (met.why !== undefined) {
        known.set(peer.name, met.why)
        continue
      }
      if (this.#toldAt === undefined) continue
      wakeAt = Math.min(wakeAt, until)
      sayAgain ||=
        this.#name < peer.name &&
        covers(could, peer.name, met.version) &&
        !covers(peer.reading, this.#name, this.#version) &&
        !covers(this.#reading, peer.name, met.version)
    }
    this.#isAdopting = false
    return { known, sayAgain, wakeAt: wakeAt === Number.POSITIVE_INFINITY ? undefined : wakeAt }
  }

  #metAs({ name, bootId }: Named): Met | undefined {
    const met = this.#met.get(name)
    return met?.bootId === bootId ? met : undefined
  }

  #why(peer: Stranger, isLate: boolean): Met['why'] {
    if (peer.heard) return 'heard'
    if (covers(peer.reading, this.#name, this.#version)) return 'has read'
    return isLate ? 'waited' : undefined
  }

  #patience({ at }: Met, { reading }: Stranger): number {
    const ms = reading === undefined || this.#version === undefined ? LEAST_PATIENCE : PATIENCE
    return Math.max(at, this.#toldAt ?? Number.POSITIVE_INFINITY) + ms
  }
}

/** Whoever says `reading` receives from `name`, whose boot id was there at `version`. */
function covers(reading: Reading | undefined, name: string, version: bigint | undefined): boolean {
  if (reading === undefined || version === undefined) return false
  return reading.version >= version && !reading.without.includes(name)
}

export function formatReading({ version, without }: Reading): string {
  return without.length === 0 ? `${version}` : `${version} without ${without.join(',')}`
}

/** Undefined when `text` is absent or not of that form. */
export function parseReading(text: string | undefined): Reading | undefined {
  const match = /^(\S+)(?: without (\S+))?$/.exec(text ?? '')
  const version = parseVersion(match?.[1])
  return version === undefined ? undefined : { version, without: match?.[2]?.split(',') ?? [] }
}

/** `metadata.resourceVersion`; undefined when it is no number that can be compared (Kubernetes' KEP 5504). */
export function parseVersion(text: string | undefined): bigint | undefined {
  return /^[1-9][0-9]{0,37}$/.test(text ?? '') ? BigInt(text as string) : undefined
}
