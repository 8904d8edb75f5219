import assert from 'node:assert/strict'
import fc from 'fast-check'

/** What nodes of a {@link ToldCluster} do; `Words` is what each says, as one value. */
export interface NodeRules<Words, Wish> {
  /** Where a node begins that has nothing persisted. `seen`: what every node said last, its own former self included. */
  begin(wish: Wish, n: number, seen: ReadonlyMap<number, Words>): Words
  /** The next step; the same object when there is none. */
  decide(wish: Wish, n: number, own: Words, seen: ReadonlyMap<number, Words>): Words
  /**
   * What goes wrong when `from`, who knows `known` of `to`, sends to it now, and `to`, who knows `back` of `from`, answers;
   * undefined: nothing. `pair` is a name of the two, in that order.
   */
  wrong(from: Words, known: Words, to: Words, back: Words, pair: string): string | undefined
}

interface Node<Words> {
  persisted: Words
  applied: Words
  published: Words | undefined
  /** How much of the history has been seen, and the latest of every node in it. */
  view: number
  readonly seen: Map<number, Words>
  wish: number
  /** Length of the history with its first words. */
  since: number
}

/**
 * A cluster in which everything that the API server does not promise may happen: each node sees a prefix of the one
 * history of words, however short, and a prefix of the history of wishes; it persists, applies and publishes in separate
 * moves; it restarts, boots and joins between any two of them.
 */
export class ToldCluster<Words, Wish> {
  readonly wishes: Wish[]
  readonly history: { readonly node: number; readonly words: Words }[] = []
  readonly nodes: (Node<Words> | undefined)[]
  readonly #rules: NodeRules<Words, Wish>

  /** The first `joined` of `size` are there, and have settled. */
  constructor(rules: NodeRules<Words, Wish>, size: number, joined: number, wish: Wish) {
    this.#rules = rules
    this.wishes = [wish]
    this.nodes = Array.from({ length: size }, () => undefined)
    for (let n = 0; n < joined; n++) this.join(n)
    this.settle(30)
  }

  /** With a view as fresh as the API server's, as a list after the start gives it. */
  join(n: number): void {
    const wish = this.wishes.length - 1
    const seen = new Map<number, Words>()
    for (const { node, words } of this.history) seen.set(node, words)
    const words = this.#rules.begin(this.wishes[wish] as Wish, n, seen)
    const view = this.history.length
    const joined = { persisted: words, applied: words, published: undefined, view, seen, wish, since: 0 }
    this.nodes[n] = joined
    this.publish(n)
    joined.since = this.history.length
  }

  decide(n: number): void {
    const node = this.nodes[n]
    if (node === undefined || node.persisted !== node.published) return
    node.persisted = this.#rules.decide(this.wishes[node.wish] as Wish, n, node.persisted, node.seen)
  }

  apply(n: number): void {
    const node = this.nodes[n]
    if (node !== undefined) node.applied = node.persisted
  }

  publish(n: number): void {
    const node = this.nodes[n]
    if (node === undefined || node.applied !== node.persisted || node.published === node.applied) return
    node.published = node.applied
    this.history.push({ node: n, words: node.applied })
  }

  /** It forgets its view; the new one comes from a list. */
  restart(n: number): void {
    const node = this.nodes[n]
    if (node === undefined) return
    this.deliver(n, this.history.length)
    node.wish = this.wishes.length - 1
    this.apply(n)
  }

  /** It forgets everything; only its CiliumNode knows what it was. */
  boot(n: number): void {
    if (this.nodes[n] !== undefined) this.join(n)
  }

  deliver(n: number, count: number): void {
    const node = this.nodes[n]
    if (node === undefined) return
    for (const { node: other, words } of this.history.slice(node.view, node.view + count)) {
      node.seen.set(other, words)
      node.view++
    }
  }

  hear(n: number): void {
    const node = this.nodes[n]
    if (node !== undefined) node.wish = Math.min(this.wishes.length - 1, node.wish + 1)
  }

  turn(n: number): void {
    this.hear(n)
    this.deliver(n, this.history.length)
    this.decide(n)
    this.apply(n)
    this.publish(n)
  }

  settle(rounds: number): void {
    for (let round = 0; round < rounds; round++) for (let n = 0; n < this.nodes.length; n++) this.turn(n)
  }

  /** Every packet that could be sent now. A node has pods from when its own first words came back to it. */
  check(trace: () => string): void {
    for (const [a, from] of this.nodes.entries()) {
      for (const [b, to] of this.nodes.entries()) {
        if (a === b || from === undefined || to === undefined) continue
        const known = from.seen.get(b)
        const back = to.seen.get(a)
        if (known === undefined || back === undefined || from.view < from.since) continue
        const wrong = this.#rules.wrong(from.applied, known, to.applied, back, `${a} ${b}`)
        assert.ok(wrong === undefined, `${a} to ${b}: ${wrong}\n${trace()}`)
      }
    }
  }
}

/** `change`: how the wish becomes another. */
type Move<Change> =
  | { readonly do: 'deliver'; readonly n: number; readonly count: number }
  | { readonly do: 'hear' | 'decide' | 'apply' | 'publish' | 'restart' | 'boot' | 'join' | 'turn'; readonly n: number }
  | { readonly do: 'wish'; readonly change: Change }

/** Up to `length` moves of up to five nodes. */
export function moves<Change>(length: number, ...changes: readonly Change[]): fc.Arbitrary<Move<Change>[]> {
  const n = fc.integer({ min: 0, max: 4 })
  const count = fc.integer({ min: 1, max: 4 })
  const move: fc.Arbitrary<Move<Change>> = fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('deliver' as const), n, count }) },
    { weight: 6, arbitrary: fc.record({ do: fc.constantFrom('hear', 'decide', 'apply', 'publish'), n }) },
    { weight: 6, arbitrary: fc.record({ do: fc.constant('turn' as const), n }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('restart', 'boot', 'join'), n }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('wish' as const), change: fc.constantFrom(...changes) }) },
  )
  return fc.array(move, { maxLength: length, size: 'max' })
}

/** Checks after each move. `joins`: nodes may come and boot. */
export function play<Words, Wish, Change>(
  cluster: ToldCluster<Words, Wish>,
  list: readonly Move<Change>[],
  joins: boolean,
  changed: (wish: Wish, change: Change) => Wish,
): void {
  const done: Move<Change>[] = []
  const trace = () => `${done.map((m) => JSON.stringify(m)).join('\n')}\n${JSON.stringify(cluster.history)}`
  for (const m of list) {
    done.push(m)
    if (m.do === 'wish') cluster.wishes.push(changed(cluster.wishes.at(-1) as Wish, m.change))
    else if (m.do === 'deliver') cluster.deliver(m.n, m.count)
    else if (m.do === 'join') {
      if (joins && cluster.nodes[m.n] === undefined) cluster.join(m.n)
    } else if (m.do === 'boot') {
      if (joins) cluster.boot(m.n)
    } else cluster[m.do](m.n)
    cluster.check(trace)
  }
}
