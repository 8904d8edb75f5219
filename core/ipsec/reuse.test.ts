import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { toHex } from '#core/bytes/text.ts'
import { unwrap } from '#core/fault/result.ts'
import { type Ip, requireIp } from '#core/ip/address.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import { type IpsecKey, MAX_KEY_ID } from './key.ts'
import { derivePairKeys } from './pair-key.ts'

/**
 * (key, sequence) is never used twice, whatever becomes of processes, machines, files and clocks: derivation and the
 * rules of the engine's memory (docs/protocol/engine.md) together. The memory itself is tested in
 * engine/engined/src/engine/ipsec/used.rs, the link to it in io/userspace/ipsec-link.test.ts.
 */
interface Rules {
  /** What is published as boot id: of the memory, or (wrong) of the machine. */
  readonly identity: 'memory' | 'machine'
  /** Whose numbers they are: the derived key's, or (wrong) an association's, which has an SPI as well. */
  readonly counters: 'key' | 'association'
  /** Where they lie: in memory alone, or (wrong) in a file that a new memory is made from. */
  readonly kept: 'memory' | 'file'
}

const RULES: Rules = { identity: 'memory', counters: 'key', kept: 'memory' }
const NODES = 3
const TEXTS = 2

class Node {
  readonly ip: Ip
  bootId = ''
  machine = ''
  /** Next number of whatever counts. */
  numbers = new Map<string, number>()
  /** As last written; a full file system keeps what is there. */
  file: ReadonlyMap<string, number> = new Map()
  isFull = false
  /** By peer: the key text and id that is sent by, and the boot id that the peer is believed to have. */
  readonly sendBy = new Map<number, { readonly text: number; readonly id: number; readonly theirs: string }>()

  constructor(index: number) {
    this.ip = requireIp(`192.0.2.${index + 1}`, 'test')
  }
}

type Event =
  | { readonly kind: 'engine' | 'supervisor' | 'boot' | 'full' | 'free' | 'save'; readonly at: number }
  | { readonly kind: 'switch'; readonly at: number; readonly to: number; readonly text: number; readonly id: number }
  | { readonly kind: 'send'; readonly at: number; readonly to: number; readonly count: number }

const at = fc.nat(NODES - 1)
const events: fc.Arbitrary<readonly Event[]> = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constantFrom(...(['engine', 'supervisor', 'boot', 'full', 'free', 'save'] as const)),
      at,
    }),
    fc.record({
      kind: fc.constant('switch' as const),
      at,
      to: at,
      text: fc.nat(TEXTS - 1),
      id: fc.integer({ min: 1, max: MAX_KEY_ID }),
    }),
    fc.record({ kind: fc.constant('send' as const), at, to: at, count: fc.integer({ min: 1, max: 8 }) }),
    fc.record({ kind: fc.constant('send' as const), at, to: at, count: fc.integer({ min: 1, max: 8 }) }),
  ),
  { minLength: 10, maxLength: 60, size: 'max' },
)

const keys = Array.from(
  { length: TEXTS },
  (_, i) =>
    ({ id: 1, encryptionKey: new Uint8Array(20).fill(i + 1), authenticationKey: new Uint8Array(0) }) as IpsecKey,
)

/** The first (key, sequence) that is used for a second packet; undefined: none. */
function firstReuse(list: readonly Event[], rules: Rules): string | undefined {
  let instances = 0
  const fresh = () => `00000000-0000-4000-8000-${String(++instances).padStart(12, '0')}`
  const nodes = Array.from({ length: NODES }, (_, i) => new Node(i))
  const begin = (node: Node) => {
    node.bootId = rules.identity === 'memory' ? fresh() : node.machine
    node.numbers = new Map(rules.kept === 'file' ? node.file : [])
    // a new memory has no associations: the agent makes them again
    node.sendBy.clear()
  }
  for (const node of nodes) {
    node.machine = fresh()
    begin(node)
  }
  const used = new Set<string>()
  for (const event of list) {
    const node = nodes[event.at] as Node
    switch (event.kind) {
      case 'engine':
        // the memory outlives it; a batch that it had taken numbers for is lost with it
        for (const [name, next] of node.numbers) node.numbers.set(name, next + 3)
        break
      case 'boot':
        node.machine = fresh()
        node.file = new Map()
        begin(node)
        break
      case 'supervisor':
        begin(node)
        break
      case 'full':
      case 'free':
        node.isFull = event.kind === 'full'
        break
      case 'save':
        if (!node.isFull) node.file = new Map(node.numbers)
        break
      case 'switch': {
        const theirs = nodes[event.to] as Node
        if (theirs !== node) node.sendBy.set(event.to, { text: event.text, id: event.id, theirs: theirs.bootId })
        break
      }
      case 'send': {
        const by = node.sendBy.get(event.to)
        if (by === undefined) break
        // the peer may have booted meanwhile: what is believed of it counts
        const destination = { ip: (nodes[event.to] as Node).ip, bootId: by.theirs }
        const pair = derivePairKeys(keys[by.text] as IpsecKey, node, destination, ipsecHash)
        const key = toHex(unwrap(pair).encryptionKey)
        const name = rules.counters === 'key' ? key : `${by.id} ${key}`
        const first = node.numbers.get(name) ?? 1
        node.numbers.set(name, first + event.count)
        for (let sequence = first; sequence < first + event.count; sequence++) {
          const use = `${key} ${sequence}`
          if (used.has(use)) return use
          used.add(use)
        }
      }
    }
  }
  return undefined
}

const property = (rules: Rules) =>
  fc.property(events, (list) => {
    assert.equal(firstReuse(list, rules), undefined)
  })

test('engines killed, supervisors killed, machines booted, files lost, ids and texts that come back: no number of a key twice', () => {
  fc.assert(property(RULES), { seed: 11, numRuns: 400 })
})

for (const wrong of [
  { identity: 'machine' },
  { counters: 'association' },
  { identity: 'machine', kept: 'file' },
] as const) {
  test(`it would be found: ${JSON.stringify(wrong)}`, () => {
    assert.throws(() => fc.assert(property({ ...RULES, ...wrong }), { seed: 11, numRuns: 400 }), /Counterexample/)
  })
}
