import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Announcement, formatAnnouncement, type Level, parseAnnouncement } from './level.ts'
import {
  type EncryptionType,
  firstMode,
  formatMode,
  type ModePeer,
  type ModeQuiet,
  type ModeView,
  mayBegin,
  nextMode,
  parseMode,
  receivesBy,
  sendsBy,
  settledIn,
} from './mode.ts'
import { firstAnnouncement, nextLevel, type TransitionPeer } from './next-level.ts'

const peers = (...list: readonly string[]): ModePeer[] =>
  list.map((text, n) => ({ name: `node-${n}`, announcement: parseMode(text) }))
const at = (text: string) => parseAnnouncement(text) as Announcement

function step(wanted: EncryptionType | undefined, own: string, others: readonly string[], change = {}) {
  const view: ModeView = {
    wanted,
    own: at(own),
    ownSeen: at(own),
    missing: undefined,
    peers: peers(...others),
    unproven: [],
    now: 5000,
    // long ago
    quiet: { epoch: at(own).epoch, since: 0 },
  }
  return nextMode({ ...view, ...change })
}

test('each step waits for exactly what it takes away from others, in both directions', () => {
  for (const [wanted, own, others, expected, waiting] of [
    ['ipsec', '0.0', ['0.0'], '0.1', []],
    ['ipsec', '0.1', ['0.0'], '1.1', []],
    ['ipsec', '1.1', ['0.1', '1.1'], '1.1', ['node-0']],
    ['ipsec', '1.1', ['1.1 proven', 'none'], '2.1', []],
    ['ipsec', '1.1', ['1.1 proven', '1.1'], '1.1', ['node-1']],
    ['ipsec', '1.1', ['2.1', '3.1'], '2.1', []],
    ['ipsec', '2.1', ['1.1'], '2.1', ['node-0']],
    ['ipsec', '2.1', ['2.1', '3.1'], '3.1', []],
    ['wireguard', '3.1', ['3.1'], '3.2', []],
    ['wireguard', '3.2', ['3.1'], '2.2', []],
    ['wireguard', '2.2', ['3.2'], '2.2', ['node-0']],
    ['wireguard', '2.2', ['2.2'], '2.2', ['node-0']],
    ['wireguard', '2.2', ['2.2 proven', '1.2'], '1.2', []],
    ['wireguard', '1.2', ['2.2'], '1.2', ['node-0']],
    ['wireguard', '1.2', ['1.2', '0.2'], '0.2', []],
    [undefined, '3.1', ['2.2'], '3.1', []],
    [undefined, '2.1', ['2.1'], '3.1', []],
  ] as const) {
    const found = step(wanted, own, others)
    assert.equal(formatAnnouncement(found.next), expected, `${wanted} ${own} ${others.join()}`)
    assert.deepEqual(found.waitingFor, waiting)
  }
})

test('nobody sends by the other one before it was seen to work, and nothing but that waits for it', () => {
  for (const [wanted, own, other] of [
    ['ipsec', '1.1', '1.1'],
    ['wireguard', '2.2', '2.2'],
  ] as const) {
    assert.ok(mayBegin(wanted, at(own)))
    const held = step(wanted, own, [`${other} proven`], { unproven: ['node-0'] })
    assert.deepEqual([held.next, held.proven], [at(own), false])
    const heard = step(wanted, own, [other, 'none'])
    assert.deepEqual([heard.next, heard.proven, heard.waitingFor], [at(own), true, ['node-0']])
    assert.deepEqual(held.waitingFor, ['node-0'])
    assert.equal(held.wakeAt, 5200)
    assert.match(held.text, /step 2 of 3: still sending by (WireGuard|IPsec) .*waiting for node-0: nothing has come/)
  }
  for (const [wanted, own, other] of [
    ['ipsec', '0.1', '1.1'],
    ['ipsec', '2.1', '2.1'],
    ['wireguard', '3.2', '2.2'],
    ['wireguard', '1.2', '1.2'],
  ] as const) {
    assert.ok(!mayBegin(wanted, at(own)))
    assert.notDeepEqual(step(wanted, own, [other], { unproven: ['node-0'] }).next, at(own))
  }
})

test('the old one goes a second after nobody sends by it, and the second begins anew when somebody does', () => {
  for (const [wanted, own, ready, behind] of [
    ['ipsec', '2.1', '2.1', '1.1'],
    ['wireguard', '1.2', '1.2', '2.2'],
  ] as const) {
    const first = step(wanted, own, [ready], { quiet: undefined })
    assert.deepEqual(first.next, at(own))
    assert.deepEqual([first.quiet?.since, first.wakeAt], [5000, 6000])
    assert.deepEqual(step(wanted, own, [ready], { quiet: first.quiet, now: 5999 }).next, at(own))
    assert.notDeepEqual(step(wanted, own, [ready], { quiet: first.quiet, now: 6000 }).next, at(own))
    assert.equal(step(wanted, own, [behind], { quiet: first.quiet }).quiet, undefined)
  }
})

test('what a stage sends by is among what it receives by, and a peer that has never heard of IPsec gets none', () => {
  for (const own of [0, 1, 2, 3] as const) {
    assert.equal(sendsBy(own, 3), receivesBy(own)[0])
    assert.equal(sendsBy(own, undefined), receivesBy(own)[0])
  }
  assert.equal(sendsBy(2, 0), 'wireguard')
  assert.deepEqual(
    [receivesBy(settledIn('wireguard').level), receivesBy(settledIn('ipsec').level)],
    [['wireguard'], ['ipsec']],
  )
})

test('the words of a mode have one text', () => {
  for (const text of ['0.0', '1.1 proven', '3.17']) assert.equal(formatMode(parseMode(text) as Announcement), text)
  for (const text of [undefined, '', 'proven', '1.1proven', '1.1 proven ', '4.1 proven'])
    assert.equal(parseMode(text), undefined)
})

test('without a key of IPsec a node stays where it is, and says why', () => {
  const held = step('ipsec', '0.1', ['1.1'], { missing: 'there is no IPsec key' })
  assert.deepEqual(held.next, at('0.1'))
  assert.match(held.text, /step 1 of 3: about to receive by IPsec too \(there is no IPsec key\)/)
})

test('a fresh node begins as far as the others are', () => {
  for (const [wanted, others, expected] of [
    ['ipsec', [], '3.1'],
    ['wireguard', [], '0.0'],
    ['ipsec', ['3.1', '2.1'], '3.1'],
    ['ipsec', ['1.1', '2.1'], '1.1'],
    ['ipsec', ['0.0', '1.1'], '1.1'],
    ['wireguard', ['0.2', '1.2'], '0.2'],
    ['wireguard', ['2.2', '1.2'], '2.2'],
    ['wireguard', ['3.1', '2.2'], '2.2'],
  ] as const) {
    assert.equal(formatAnnouncement(firstMode(wanted, peers(...others))), expected, others.join())
  }
})

/**
 * Levels and stages at once, each by its own rules: every view is a prefix of one history in which a node's two words stand
 * together; nodes persist, apply and publish in separate moves, and restart, join and boot. `unproven` and `quiet` only hold a
 * step back, as any delay of a move does.
 */
interface Words {
  readonly level: Announcement
  readonly mode: Announcement
}

interface Node {
  persisted: Words
  applied: Words
  published: Words | undefined
  view: number
  readonly seen: Map<number, Words>
  wish: number
  since: number
  quiet: ModeQuiet | undefined
}

interface Wish {
  readonly on: boolean
  readonly type: EncryptionType
}

class Cluster {
  readonly wishes: Wish[]
  readonly history: { readonly node: number; readonly words: Words }[] = []
  readonly nodes: (Node | undefined)[]

  constructor(size: number, joined: number, wish: Wish) {
    this.wishes = [wish]
    this.nodes = Array.from({ length: size }, () => undefined)
    for (let n = 0; n < joined; n++) this.join(n)
    for (let round = 0; round < 30; round++) for (let n = 0; n < joined; n++) this.turn(n)
  }

  join(n: number): void {
    const wish = this.wishes.length - 1
    const seen = new Map<number, Words>()
    for (const { node, words } of this.history) seen.set(node, words)
    const { on, type } = this.wishes[wish] as Wish
    const said = seen.get(n)
    const words = {
      level: firstAnnouncement(on, others(n, seen, 'level'), said?.level),
      mode: firstMode(type, others(n, seen, 'mode'), said?.mode),
    }
    const view = this.history.length
    const joined: Node = {
      persisted: words,
      applied: words,
      published: undefined,
      view,
      seen,
      wish,
      since: 0,
      quiet: undefined,
    }
    this.nodes[n] = joined
    this.publish(n)
    joined.since = this.history.length
  }

  decide(n: number): void {
    const node = this.nodes[n]
    if (node === undefined || node.persisted !== node.published) return
    const { on, type } = this.wishes[node.wish] as Wish
    const own = node.persisted
    const level = nextLevel({
      wanted: on,
      own: own.level,
      ownSeen: node.seen.get(n)?.level,
      receiving: true,
      peers: others(n, node.seen, 'level'),
    }).next
    const mode = nextMode({
      wanted: on ? type : undefined,
      own: own.mode,
      ownSeen: node.seen.get(n)?.mode,
      missing: undefined,
      peers: others(n, node.seen, 'mode').map(withProof),
      unproven: [],
      now: 1e9,
      quiet: { epoch: own.mode.epoch, since: 0 },
    }).next
    if (level !== own.level || mode !== own.mode) node.persisted = { level, mode }
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

  restart(n: number): void {
    const node = this.nodes[n]
    if (node === undefined) return
    this.deliver(n, this.history.length)
    node.wish = this.wishes.length - 1
    this.apply(n)
  }

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

  /** Every packet that could be sent now is received; a closed node sends none in clear and takes none. */
  check(trace: () => string): void {
    for (const [a, from] of this.nodes.entries()) {
      for (const [b, to] of this.nodes.entries()) {
        if (a === b || from === undefined || to === undefined) continue
        const known = from.seen.get(b)
        if (known === undefined || !to.seen.has(a) || from.view < from.since) continue
        const own = from.applied.level.level
        const encrypted = own === 3 || (own === 2 && known.level.level >= 1)
        const by = encrypted ? sendsBy(from.applied.mode.level, known.mode.level) : 'clear'
        const takes: readonly (string | undefined)[] = [
          ...(to.applied.level.level <= 2 ? ['clear'] : []),
          ...(to.applied.level.level >= 1 ? receivesBy(to.applied.mode.level) : []),
        ]
        assert.ok(takes.includes(by), `${a} sends ${by} to ${b}, which takes ${takes.join()}\n${trace()}`)
      }
    }
  }
}

/** All has come by everything: only then nobody is held back. */
function withProof({ name, announcement }: TransitionPeer): ModePeer {
  return { name, announcement: announcement && { ...announcement, proven: true } }
}

function others(n: number, seen: ReadonlyMap<number, Words>, which: keyof Words): TransitionPeer[] {
  return [...seen]
    .filter(([node]) => node !== n)
    .map(([node, words]) => ({ name: `${node}`, announcement: words[which] }))
}

type Move =
  | { readonly do: 'deliver'; readonly n: number; readonly count: number }
  | { readonly do: 'hear' | 'decide' | 'apply' | 'publish' | 'restart' | 'boot' | 'join' | 'turn'; readonly n: number }
  | { readonly do: 'change mode' }
  | { readonly do: 'turn on or off' }

const node = fc.integer({ min: 0, max: 4 })
const move: fc.Arbitrary<Move> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('deliver' as const), n: node, count: fc.integer({ min: 1, max: 4 }) }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constantFrom('hear', 'decide', 'apply', 'publish'), n: node }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('turn' as const), n: node }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('restart', 'boot', 'join'), n: node }) },
  { weight: 1, arbitrary: fc.constantFrom<Move>({ do: 'change mode' }, { do: 'turn on or off' }) },
)

function run(cluster: Cluster, moves: readonly Move[], joins: boolean): void {
  const done: Move[] = []
  const trace = () => `${done.map((m) => JSON.stringify(m)).join('\n')}\n${JSON.stringify(cluster.history)}`
  for (const m of moves) {
    done.push(m)
    const wish = cluster.wishes.at(-1) as Wish
    if (m.do === 'change mode') cluster.wishes.push({ ...wish, type: wish.type === 'ipsec' ? 'wireguard' : 'ipsec' })
    else if (m.do === 'turn on or off') cluster.wishes.push({ ...wish, on: !wish.on })
    else if (m.do === 'deliver') cluster.deliver(m.n, m.count)
    else if (m.do === 'join') {
      if (joins && cluster.nodes[m.n] === undefined) cluster.join(m.n)
    } else if (m.do === 'boot') {
      if (joins) cluster.boot(m.n)
    } else cluster[m.do](m.n)
    cluster.check(trace)
  }
}

const RUNS = { numRuns: 1500, seed: 20261121 }
const wish = fc.record({ on: fc.boolean(), type: fc.constantFrom('wireguard', 'ipsec') })
const moves = (length: number) => fc.array(move, { maxLength: length, size: 'max' })

test('no order, delay, restart or change of mind loses or leaks a packet, at any level', () => {
  fc.assert(
    fc.property(wish, fc.integer({ min: 2, max: 5 }), moves(140), (first, size, list) => {
      run(new Cluster(5, size, first), list, false)
    }),
    RUNS,
  )
})

test('nodes that join or boot while the mode of an encrypted cluster changes lose nothing', () => {
  fc.assert(
    fc.property(wish, fc.integer({ min: 1, max: 4 }), moves(140), (first, size, list) => {
      const cluster = new Cluster(5, size, { ...first, on: true })
      const [other] = (['wireguard', 'ipsec'] as const).filter((type) => type !== first.type)
      cluster.wishes.push({ on: true, type: other as EncryptionType })
      run(
        cluster,
        list.filter((m) => m.do !== 'turn on or off' && m.do !== 'change mode'),
        true,
      )
    }),
    RUNS,
  )
})

test('whatever happened, quiet brings all nodes to what is wanted', () => {
  fc.assert(
    fc.property(wish, moves(80), (first, list) => {
      const cluster = new Cluster(5, 3, first)
      try {
        run(cluster, list, true)
      } catch {
        // joins in the middle of two changes of mind may lose packets for a moment; here only the end counts
      }
      for (let round = 0; round < 40; round++) for (let n = 0; n < 5; n++) cluster.turn(n)
      const { on, type } = cluster.wishes.at(-1) as Wish
      for (const each of cluster.nodes) {
        if (each === undefined) continue
        assert.equal(each.applied.level.level, (on ? 3 : 0) satisfies Level)
        if (on) assert.equal(each.applied.mode.level, settledIn(type).level)
      }
    }),
    { ...RUNS, numRuns: 500 },
  )
})
