import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { moves, type NodeRules, play, ToldCluster } from '#test/kit/told-cluster.ts'
import { type Announcement, formatAnnouncement, type Level, parseAnnouncement } from './level.ts'
import {
  type EncryptionType,
  firstMode,
  formatMode,
  type ModePeer,
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

interface Wish {
  readonly on: boolean
  readonly type: EncryptionType
}

const RULES: NodeRules<Words, Wish> = {
  begin({ on, type }, n, seen) {
    const said = seen.get(n)
    return {
      level: firstAnnouncement(on, others(n, seen, 'level'), said?.level),
      mode: firstMode(type, others(n, seen, 'mode'), said?.mode),
    }
  },

  decide({ on, type }, n, own, seen) {
    const level = nextLevel({
      wanted: on,
      own: own.level,
      ownSeen: seen.get(n)?.level,
      receiving: true,
      peers: others(n, seen, 'level'),
    }).next
    const mode = nextMode({
      wanted: on ? type : undefined,
      own: own.mode,
      ownSeen: seen.get(n)?.mode,
      missing: undefined,
      peers: others(n, seen, 'mode').map(withProof),
      unproven: [],
      now: 1e9,
      quiet: { epoch: own.mode.epoch, since: 0 },
    }).next
    return level === own.level && mode === own.mode ? own : { level, mode }
  },

  /** Every packet is received; a closed node sends none in clear and takes none. */
  wrong(from, known, to) {
    const own = from.level.level
    const encrypted = own === 3 || (own === 2 && known.level.level >= 1)
    const by = encrypted ? sendsBy(from.mode.level, known.mode.level) : 'clear'
    const takes: readonly (string | undefined)[] = [
      ...(to.level.level <= 2 ? ['clear'] : []),
      ...(to.level.level >= 1 ? receivesBy(to.mode.level) : []),
    ]
    return takes.includes(by) ? undefined : `sends ${by} to one that takes ${takes.join()}`
  },
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

const changed = ({ on, type }: Wish, change: 'mode' | 'on or off'): Wish =>
  change === 'on or off' ? { on: !on, type } : { on, type: type === 'ipsec' ? 'wireguard' : 'ipsec' }

const RUNS = { numRuns: 1500, seed: 20261121 }
const wish = fc.record({ on: fc.boolean(), type: fc.constantFrom('wireguard', 'ipsec') })
const list = (length: number) => moves(length, 'mode' as const, 'on or off' as const)

test('no order, delay, restart or change of mind loses or leaks a packet, at any level', () => {
  fc.assert(
    fc.property(wish, fc.integer({ min: 2, max: 5 }), list(140), (first, size, steps) => {
      play(new ToldCluster(RULES, 5, size, first), steps, false, changed)
    }),
    RUNS,
  )
})

test('nodes that join or boot while the mode of an encrypted cluster changes lose nothing', () => {
  fc.assert(
    fc.property(wish, fc.integer({ min: 1, max: 4 }), list(140), (first, size, steps) => {
      const cluster = new ToldCluster(RULES, 5, size, { ...first, on: true })
      const [other] = (['wireguard', 'ipsec'] as const).filter((type) => type !== first.type)
      cluster.wishes.push({ on: true, type: other as EncryptionType })
      play(
        cluster,
        steps.filter((m) => m.do !== 'wish'),
        true,
        changed,
      )
    }),
    RUNS,
  )
})

test('whatever happened, quiet brings all nodes to what is wanted', () => {
  fc.assert(
    fc.property(wish, list(80), (first, steps) => {
      const cluster = new ToldCluster(RULES, 5, 3, first)
      try {
        play(cluster, steps, true, changed)
      } catch {
        // joins in the middle of two changes of mind may lose packets for a moment; here only the end counts
      }
      cluster.settle(40)
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
