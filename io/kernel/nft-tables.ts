import { createHash } from 'node:crypto'
import { type ActualTable, OUR_TABLE_PREFIX } from '#core/host/host-actual.ts'
import type { NftTablePlan } from '#core/host/host-plan.ts'
import { type Nftables, openNftables } from '#io/sys/libc.ts'

/**
 * Our nftables tables, by libnftables within this process (docs/adr/0002-nftables.md).
 *
 * A table is replaced in one transaction: packets meet the old one or the new one, never none. How it is known later that
 * a table still is what was applied: after a replacement it is listed as the kernel now has it, and an empty chain is
 * added whose *name* holds a hash of the plan's text and one of that listing (without the chain). Whoever deletes or adds
 * a single rule changes the listing but not the name. Without the chain (killed in between) the table counts as changed
 * and is applied again. Counters and the age of elements are no part of a listing.
 */
const MARKER_PREFIX = 'applied_'
const MARKER = /^applied_([0-9a-f]{16})_([0-9a-f]{16})$/

type TableId = Pick<NftTablePlan, 'family' | 'name'>

export class NftTables {
  readonly #library: string | undefined
  #nft: Nftables | undefined

  /** Opens the library at first use, in the network namespace of that moment. */
  constructor(library?: string) {
    this.#library = library
  }

  /** Throws Faults `nftables.*`; then nothing has changed. */
  set({ family, name, body }: NftTablePlan): void {
    const id = `table ${family} ${name}`
    this.#run(`add ${id}\ndelete ${id}\n${id} {\n${goingOn(body, this.#counted({ family, name }))}\n}\n`)
    const marker = `${MARKER_PREFIX}${hash(body)}_${hash(this.#listing({ family, name }))}`
    this.#run(`add chain ${family} ${name} ${marker}\n`)
  }

  /** Packets by named counter, of all our tables. */
  counters(): Record<string, number> {
    const packets: Record<string, number> = {}
    for (const id of this.#ours()) {
      for (const [name, counted] of this.#counted(id)) packets[name] = (packets[name] ?? 0) + counted.packets
    }
    return packets
  }

  /** Absent already is fine. */
  delete({ family, name }: TableId): void {
    this.#run(`add table ${family} ${name}\ndelete table ${family} ${name}\n`)
  }

  /** All tables of our prefix; `planned` are the texts that a body is recognised by. */
  list(planned: readonly NftTablePlan[]): ActualTable[] {
    return this.#ours().map((id) => {
      const plan = planned.find((one) => one.family === id.family && one.name === id.name)
      return plan !== undefined && this.has(plan) ? { ...id, body: plan.body } : id
    })
  }

  /** Whether the table still is what was applied. */
  has(plan: NftTablePlan): boolean {
    let whole: string
    try {
      whole = this.#run(`list table ${plan.family} ${plan.name}`)
    } catch {
      // not there, or deleted since it was listed
      return false
    }
    const { markers, rest } = withoutMarkers(whole)
    const [, body, listing] = MARKER.exec(markers.length === 1 ? (markers[0] ?? '') : '') ?? []
    return body === hash(plan.body) && listing === hash(rest)
  }

  /** As `nft list table` prints it, without what only we put there. */
  text(id: TableId): string {
    return this.#listing(id)
  }

  close(): void {
    this.#nft?.close()
    this.#nft = undefined
  }

  #ours(): TableId[] {
    const ids: TableId[] = []
    for (const line of this.#run('list tables').split('\n')) {
      const [, family, name] = line.split(' ')
      const known = family === 'ip' || family === 'ip6' || family === 'inet'
      if (known && name?.startsWith(OUR_TABLE_PREFIX) === true) ids.push({ family, name })
    }
    return ids
  }

  /** Named counters of a table; none where there is no such table. */
  #counted({ family, name }: TableId): Map<string, Counted> {
    let listing: string
    try {
      listing = this.#run(`list counters table ${family} ${name}`)
    } catch {
      return new Map()
    }
    const found = listing.matchAll(/counter (\w+) \{\s*packets (\d+) bytes (\d+)/g)
    return new Map(
      Array.from(found, ([, counter = '', packets, bytes]) => [
        counter,
        { packets: Number(packets), bytes: Number(bytes) },
      ]),
    )
  }

  #listing({ family, name }: TableId): string {
    return withoutMarkers(this.#run(`list table ${family} ${name}`)).rest
  }

  #run(commands: string): string {
    this.#nft ??= openNftables(this.#library)
    return this.#nft.run(commands)
  }
}

interface Counted {
  readonly packets: number
  readonly bytes: number
}

/** `body` with its named counters as they stand: who reads them sees numbers that only grow. */
function goingOn(body: string, before: ReadonlyMap<string, Counted>): string {
  return body.replaceAll(/^(\s*counter (\w+)) \{ \}/gm, (empty, head: string, name: string) => {
    const { packets, bytes } = before.get(name) ?? { packets: 0, bytes: 0 }
    return packets === 0 ? empty : `${head} { packets ${packets} bytes ${bytes} }`
  })
}

/** Takes empty chains of our marker's form out of a listing; one that somebody put a rule into stays and is seen. */
function withoutMarkers(listing: string): { readonly markers: readonly string[]; readonly rest: string } {
  const markers: string[] = []
  const rest = listing.replaceAll(/\n?\n\tchain (applied_[0-9a-f_]+) \{\n\t\}/g, (_, name: string) => {
    markers.push(name)
    return ''
  })
  // of named counters; those within rules are left out by the library
  return { markers, rest: rest.replaceAll(/\bpackets \d+ bytes \d+/g, 'packets 0 bytes 0').trim() }
}

/** 64 bits: against accidents, not against somebody who may change nftables anyway. */
function hash(text: string): string {
  return createHash('sha256').update(text.trim()).digest('hex').slice(0, 16)
}
