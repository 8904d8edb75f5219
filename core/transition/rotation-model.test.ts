import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { hasKey, type KeyFingerprint, type KeyRef, sameKey } from '#core/ipsec/key.ts'
import { nextKeyId } from '#core/ipsec/new-key-text.ts'
import type { IpsecWords } from '#core/ipsec/words.ts'
import { Greeting, type Look, type Reading, type Stranger } from './greeting.ts'
import { FLIGHT_TIME, type Quiet, type Rotation, type RotationPeer, type RotationView, rotate } from './rotation.ts'
import { type Kept, keepTexts } from './rotation-operator.ts'

/**
 * A cluster in which everything may happen that the API server and machines do not exclude. Each object has one history;
 * each process sees a prefix of each of them, of other nodes' even an older one after a start; it applies in
 * single steps, publishes in a step of its own, whose answer may be lost; it restarts between any two. A packet flows by
 * whatever a node's engine has in force to a peer it has heard, at every moment.
 *
 * Longer than other files: the model, its moves and the mutants that it has to find are read together.
 */
class Cluster {
  now = 0
  readonly #decide: (view: RotationView) => Rotation
  readonly objects = new Map<string, unknown[]>([
    ['kept', [{ texts: [], retired: [], forced: [] } satisfies Kept]],
    ['user', []],
    ['config', ['on']],
  ])
  readonly nodes: Node[]
  /** What the one store had counted to when each was written. */
  readonly #versions = new Map<string, number[]>()
  #version = 0
  readonly operatorSees = new Map<string, number>()
  /** What it was started with. */
  operatorWants = true
  readonly #operatorSleeps: boolean
  readonly #isHasty: boolean
  readonly used: KeyRef[] = []
  /** When a packet by this key last left from one to the other: `FROM TO KEY`. */
  readonly lastSent = new Map<string, number>()
  /** Names of nodes that were forced or gone while others still counted on them: what they lose was asked for. */
  readonly excused = new Set<string>()
  /** Starts may show older words of other nodes. */
  readonly regress: boolean
  /** Every node has a file of its own, and nobody keeps texts. */
  readonly isDirect: boolean

  constructor(joined: number, firstId: number, kind: Kind = {}) {
    this.#decide = kind.decide ?? rotate
    this.regress = kind.regress ?? false
    this.isDirect = kind.isDirect ?? false
    this.#operatorSleeps = kind.operatorSleeps ?? false
    this.#isHasty = kind.isHasty ?? false
    this.patch(firstId)
    this.nodes = Array.from({ length: SIZE }, (_, i) => newNode(String(i)))
    for (let i = 0; i < joined; i++) this.boot(i)
    this.settle(8)
    const why = this.nodes.flatMap(({ look }) => [...look.known.values()])
    assert.ok(!why.includes('waited'), 'nodes that begin together wait for each other')
    this.checkEnd()
  }

  history<T>(object: string): T[] {
    let list = this.objects.get(object)
    if (list === undefined) this.objects.set(object, (list = []))
    return list as T[]
  }

  latest(object: string): unknown {
    return this.history(object).at(-1)
  }

  /** Without an operator, a rotation is begun only when the one before is over. */
  get isSettled(): boolean {
    const user = this.user
    const up = this.nodes.filter(({ isUp, isOn }) => isUp && isOn)
    return up.every(({ installed }) => installed.length === 1 && sameKey(installed[0], user))
  }

  patch(id: number): void {
    const key = { id, fingerprint: String(this.used.length).padStart(16, '0') as KeyFingerprint }
    this.used.push(key)
    this.history<KeyRef>('user').push(key)
  }

  putBack(key: KeyRef): void {
    this.history<KeyRef>('user').push(key)
  }

  /** The Secret of the moment; undefined: there is none. */
  get user(): KeyRef | undefined {
    return this.latest('user') as KeyRef | undefined
  }

  deleteSecret(): void {
    this.history<undefined>('user').push(undefined)
  }

  configure(wanted: 'on' | 'off'): void {
    if (this.latest('config') !== wanted) this.history('config').push(wanted)
  }

  // The agent

  seen(node: Node, object: string): unknown {
    return this.history(object)[(node.sees.get(object) ?? 0) - 1]
  }

  peersOf(node: Node): (RotationPeer & Pick<Published, 'boot' | 'reading'>)[] {
    return this.nodes.flatMap(({ name }) => {
      const it = name === node.name ? undefined : (this.seen(node, `node/${name}`) as Published | 'gone' | undefined)
      if (it === undefined || it === 'gone') return []
      return [{ name, ...it, isNew: it.words !== undefined && !node.look.known.has(name) }]
    })
  }

  #write(node: Node, what: Published | 'gone'): bigint {
    const object = `node/${node.name}`
    this.history<Published | 'gone'>(object).push(what)
    const versions = this.#versions.get(object) ?? []
    this.#versions.set(object, [...versions, ++this.#version])
    return BigInt(this.#version)
  }

  /** Up to where it has seen all nodes' words. */
  #readBy(node: Node): bigint {
    const missing = [...this.#versions].flatMap(([object, versions]) => versions[node.sees.get(object) ?? 0] ?? [])
    return BigInt(Math.min(this.#version, ...missing.map((version) => version - 1)))
  }

  /** As the agent does before each decision. */
  #greet(node: Node): void {
    const strangers = this.peersOf(node).flatMap(({ name, words, boot, reading }): Stranger[] => {
      const version = this.#versions.get(`node/${name}`)?.[(node.sees.get(`node/${name}`) ?? 0) - 1]
      const heard = node.heard.has(name) && node.slots.get(name) === boot
      if (words === undefined) return []
      const read = this.#isHasty ? { version: BigInt(this.#version), without: [] } : reading
      return [{ name, bootId: String(boot), version: BigInt(version ?? 0), reading: read, heard }]
    })
    node.look = node.greeting.look(strangers, node.reading, this.now)
  }

  viewOf(node: Node): RotationView {
    const kept = this.seen(node, 'kept') as Kept
    const user = this.seen(node, 'user') as KeyRef | undefined
    for (const key of [...kept.texts, ...(user === undefined ? [] : [user])]) {
      if (!hasKey(node.known, key)) node.known.push(key)
    }
    return {
      sources: {
        kept: kept.texts,
        retired: this.isDirect ? node.removed.map(({ fingerprint }) => fingerprint) : kept.retired,
        user: user === undefined ? [] : [user],
        operator: !this.isDirect,
        isKeeping: !this.isDirect,
        unusable: [],
      },
      own: { known: node.known, said: node.said, installed: node.reported.installed, sending: node.reported.sending },
      peers: this.peersOf(node),
      forced: kept.forced,
      now: this.now,
      quiet: node.quiet,
    }
  }

  /** One decision, or one step of the last one; false when there was nothing to do. */
  turn(i: number): boolean {
    const node = this.nodes[i]!
    if (!node.isUp) return false
    const wanted = this.seen(node, 'config') === 'on'
    if (wanted !== node.isOn) this.#turnOnOrOff(i, wanted)
    if (!node.isOn) return this.#tellOff(node)
    const next = node.steps.shift()
    if (next !== undefined) {
      next()
      return true
    }
    this.#greet(node)
    const result = this.#decide(this.viewOf(node))
    node.quiet = result.quiet
    const peers = this.peersOf(node)
    const isKnown = peers.length === node.slots.size && peers.every(({ name, boot }) => node.slots.get(name) === boot)
    if (result.step === 'apply' || !isKnown) this.#apply(node, result, peers)
    else if (result.step === 'publish' || node.look.sayAgain || node.isUnanswered) this.#publish(node, result.words)
    return node.steps.length > 0
  }

  /**
   * Of IPsec: the device goes with all it holds, and the next one has another boot id. That others are ready for it is not
   * the matter here (transition.test.ts, mode.test.ts): nodes go off and on in any order.
   */
  #turnOnOrOff(i: number, isOn: boolean): void {
    const node = this.nodes[i]!
    const { sees, isCut, isDeaf } = node
    this.boot(i)
    Object.assign(this.nodes[i]!, { sees, isOn, isCut, isDeaf })
    Object.assign(node, this.nodes[i])
    this.nodes[i] = node
  }

  #tellOff(node: Node): boolean {
    const last = this.latest(`node/${node.name}`) as Published | 'gone' | undefined
    if (last === 'gone' || last?.words === undefined || node.isCut) return false
    this.#write(node, { boot: node.boot, words: undefined, reading: undefined })
    return true
  }

  #apply(node: Node, { receive, send }: Rotation, peers: readonly { name: string; boot: number }[]): void {
    node.steps.push(() => {
      for (const name of node.slots.keys()) {
        const peer = peers.find((each) => each.name === name)
        if (peer?.boot === node.slots.get(name)) continue
        for (const forget of [node.slots, node.heard, node.inForce]) forget.delete(name)
      }
      for (const { name, boot } of peers) node.slots.set(name, boot)
      for (const key of receive) {
        if (hasKey(node.installed, key)) continue
        assert.ok(!hasKey(node.removed, key), `${node.name} receives again by ${key.id}`)
        assert.ok(!node.installed.some(({ id }) => id === key.id), `${node.name} has two keys of id ${key.id}`)
        node.installed.push(key)
      }
    })
    for (const { name } of peers) {
      const key = send.get(name)
      node.steps.push(() => this.#switch(node, name, key))
    }
    node.steps.push(() => {
      for (const key of node.installed.filter((each) => !hasKey(receive, each))) this.#remove(node, key)
    })
    const read = this.#readBy(node)
    node.steps.push(() => {
      node.reported = { installed: receive, sending: new Map(send) }
      node.reading = { version: read, without: [] }
    })
  }

  #switch(node: Node, name: string, key: KeyRef | undefined): void {
    const before = node.inForce.get(name)
    if (key === undefined) node.inForce.delete(name)
    else node.inForce.set(name, key)
    if (sameKey(before, key)) return
    if (before === undefined && key !== undefined) this.#checkFirst(node, name, key)
    const to = this.nodes[Number(name)]!
    if (before !== undefined && this.#flows(node, to)) {
      this.lastSent.set(`${node.name} ${name} ${before.fingerprint}`, this.now)
      if (key === undefined && !this.regress) assert.ok(this.excused.has(name), `${node.name} stops sending to ${name}`)
    }
  }

  /** It is not sent to before it has the association, unless nobody could know. */
  #checkFirst(node: Node, name: string, key: KeyRef): void {
    const to = this.nodes[Number(name)]!
    const why = node.look.known.get(name)
    if (why === 'here before' || why === 'waited' || this.excused.has(name)) return
    // which is not known yet here
    if (!to.isUp || !to.isOn || to.boot !== node.slots.get(name)) return
    const isThere = to.slots.get(node.name) === node.boot && hasKey(to.installed, key)
    assert.ok(isThere, `${node.name} greets ${name} too early, since ${why}`)
  }

  #remove(node: Node, key: KeyRef): void {
    node.installed = node.installed.filter((each) => !sameKey(each, key))
    // what was never said may come again: nobody has sent by it
    const published = this.history<Published | 'gone'>(`node/${node.name}`)
    if (published.some((it) => it !== 'gone' && it.boot === node.boot && hasKey(it.words?.receives, key)))
      node.removed.push(key)
    for (const { name } of this.nodes) {
      const last = this.lastSent.get(`${name} ${node.name} ${key.fingerprint}`)
      const isExcused = this.excused.has(name)
      if (last !== undefined && !isExcused) {
        assert.ok(this.now - last >= FLIGHT_TIME, `${name} sent by ${key.id} to ${node.name} just now`)
      }
    }
  }

  #publish(node: Node, words: IpsecWords): void {
    node.said = [...node.said, words]
    const { boot, reading } = node
    node.isUnanswered = true
    node.steps.push(() => {
      if (node.isCut) return // no answer: nobody knows whether it was written
      const version = this.#write(node, { boot, words, reading })
      if (node.isDeaf) return
      node.steps.push(() => {
        node.said = [words]
        node.isUnanswered = false
        node.greeting.told(this.now, version, reading)
      })
    })
  }

  // What happens to it

  boot(i: number): void {
    const { name, boot } = this.nodes[i]!
    this.excused.delete(name)
    for (const each of this.lastSent.keys()) {
      if (each.startsWith(`${name} `) || each.split(' ')[1] === name) this.lastSent.delete(each)
    }
    this.nodes[i] = { ...newNode(name), isUp: true, boot: boot + 1 }
    this.#list(this.nodes[i])
  }

  /** Of the agent alone. */
  restart(i: number, age: number): void {
    const node = this.nodes[i]!
    if (!node.isUp) return
    const last = this.latest(`node/${node.name}`) as Published | 'gone' | undefined
    const own =
      last === undefined || last === 'gone' || last.boot !== node.boot || last.words === undefined ? [] : [last.words]
    const fresh = newNode(node.name)
    Object.assign(node, {
      steps: [],
      quiet: undefined,
      reported: fresh.reported,
      said: own,
      known: this.isDirect ? node.known : [],
      sees: fresh.sees,
      isCut: false,
      isDeaf: false,
      greeting: fresh.greeting,
      look: fresh.look,
      reading: undefined,
      isUnanswered: false,
    })
    if (last !== undefined && last !== 'gone' && own.length > 0) {
      node.greeting.adopt(BigInt(this.#versions.get(`node/${node.name}`)?.at(-1) ?? 0), last.reading)
    }
    this.#list(node, this.regress ? age : 0)
  }

  /** What is there is known; words may be as old as the object. */
  #list(node: Node, age = 0): void {
    for (const object of this.objects.keys()) {
      const history = this.history<Published | 'gone'>(object)
      const last = history.at(-1)
      const isNode = object.startsWith('node/') && last !== undefined && last !== 'gone'
      const first = isNode ? history.findIndex((it) => it !== 'gone' && it.boot === last.boot) + 1 : history.length
      node.sees.set(object, Math.max(first, history.length - age))
    }
  }

  bootAll(): void {
    for (const [i, node] of this.nodes.entries()) if (!node.isUp && node.boot > 0) this.boot(i)
  }

  crash(i: number): void {
    this.nodes[i]!.isUp = false
  }

  leave(i: number): void {
    const node = this.nodes[i]!
    if (this.latest(`node/${node.name}`) === undefined) return
    node.isUp = false
    this.#write(node, 'gone')
  }

  deliver(i: number, object: string): void {
    const node = this.nodes[i]!
    if (node.isUp && !node.isCut) advance(node.sees, object, this.history(object).length)
  }

  hear(i: number, j: number): void {
    const [to, from] = [this.nodes[i]!, this.nodes[j]!]
    const key = from.inForce.get(to.name)
    if (i === j || key === undefined || !to.isUp || !from.isUp || !hasKey(to.installed, key)) return
    if (from.slots.get(to.name) === to.boot && to.slots.get(from.name) === from.boot) to.heard.set(from.name, true)
  }

  operate(): void {
    if (this.isDirect) return
    const seen = (object: string) => this.history(object)[(this.operatorSees.get(object) ?? 0) - 1]
    const kept = seen('kept') as Kept | undefined
    const user = seen('user') as KeyRef | undefined
    const wanted = this.operatorWants
    if (kept === undefined || (!wanted && this.#operatorSleeps)) return
    const nodes = this.nodes.flatMap(({ name }) => {
      const it = seen(`node/${name}`) as Published | 'gone' | undefined
      return it === undefined || it === 'gone' ? [] : [{ name, words: it.words }]
    })
    const keeping = keepTexts({ kept, wanted, user: user === undefined ? [] : [user], nodes, unusable: [] })
    assert.ok(keeping.kept.texts.length <= 2)
    // the API server refuses what was decided on an older version
    if (keeping.changed && kept === this.latest('kept')) this.history<Kept>('kept').push(keeping.kept)
  }

  /** All but one object arrive at a node, which does what there is to do. */
  sync(i: number, without: string): void {
    for (const object of this.objects.keys()) {
      const node = this.nodes[i]!
      if (object !== without && !node.isCut && node.isUp) node.sees.set(object, this.history(object).length)
    }
    for (let step = 0; step < 12 && this.turn(i); step++) this.check()
    for (const j of this.nodes.keys()) this.hear(i, j)
  }

  tellOperator(object: string): void {
    advance(this.operatorSees, object, this.history(object).length)
  }

  /** It forgets nothing but what it had not seen yet. */
  restartOperator(): void {
    for (const object of this.objects.keys()) this.operatorSees.set(object, this.history(object).length)
    this.operatorWants = this.latest('config') === 'on'
  }

  /** `--force` for all nodes that are down. */
  force(): void {
    const kept = this.latest('kept') as Kept
    if (kept.texts.length < 2) return
    const forced = this.nodes.filter(({ isUp }) => !isUp).map(({ name }) => name)
    if (forced.length === 0) return
    for (const name of forced) this.excused.add(name)
    this.history<Kept>('kept').push({ ...kept, forced })
  }

  #flows(from: Node, to: Node): boolean {
    return from.isUp && to.isUp && from.heard.has(to.name) && from.slots.get(to.name) === to.boot
  }

  /** Every packet that could leave now is received. */
  check(): void {
    for (const from of this.nodes) {
      for (const to of this.nodes) {
        const key = from.inForce.get(to.name)
        if (from === to || key === undefined || !this.#flows(from, to) || to.slots.get(from.name) !== from.boot)
          continue
        assert.ok(
          hasKey(to.installed, key),
          `${from.name} sends by ${key.id} to ${to.name}, which has ${ids(to.installed)}`,
        )
      }
    }
  }

  /** Everything arrives, everybody runs. */
  round(): void {
    this.restartOperator()
    this.operate()
    for (const [i, node] of this.nodes.entries()) {
      if (!node.isUp) continue
      for (const object of this.objects.keys()) node.sees.set(object, this.history(object).length)
      for (let step = 0; step < 12 && this.turn(i); step++) this.check()
    }
    for (const i of this.nodes.keys()) for (const j of this.nodes.keys()) this.hear(i, j)
    this.check()
    this.now += 500
  }

  settle(rounds: number): void {
    for (const node of this.nodes) node.isCut = node.isDeaf = false
    for (let round = 0; round < rounds; round++) this.round()
  }

  /** Whatever the Secret of the moment is refused for, another key with an id that nobody holds is taken. */
  goForward(): void {
    const kept = this.latest('kept') as Kept
    if (kept.texts.length > 0) return
    const held = this.nodes.flatMap(({ isUp, installed }) => (isUp ? installed : []))
    const { user } = this
    assert.ok(user !== undefined)
    const said = this.nodes.map((node): RotationPeer => ({ name: node.name, words: node.said.at(-1) }))
    const { problems } = keepTexts({ kept, wanted: true, user: [user], nodes: said, unusable: [] })
    assert.match(problems.map(({ code }) => code).join(), /used-before|same-id/)
    this.patch(
      nextKeyId(
        user.id,
        held.map(({ id }) => id),
      ),
    )
    this.settle(12)
  }

  /** All that are there have one key, the newest that could be taken, and send by it. */
  checkEnd(exactly?: KeyRef): void {
    const kept = this.latest('kept') as Kept
    const { user } = this
    const up = this.nodes.filter(({ isUp }) => isUp)
    if (!this.isDirect) assert.equal(kept.texts.length, 1, `kept: ${ids(kept.texts)}`)
    const last = this.isDirect ? user : kept.texts[0]
    if (exactly !== undefined) assert.deepEqual(last, exactly)
    for (const node of up) {
      assert.deepEqual(node.installed, [last], `${node.name} holds ${ids(node.installed)}, not ${last?.id}`)
      for (const other of up) {
        if (node === other) continue
        assert.ok(sameKey(node.inForce.get(other.name), last), `${node.name} does not send to ${other.name}`)
        assert.ok(node.heard.has(other.name), `${node.name} has not heard ${other.name}`)
      }
    }
    if (user !== undefined && !sameKey(user, last)) {
      const nodes: RotationPeer[] = []
      const { problems } = keepTexts({ kept, wanted: true, user: [user], nodes, unusable: [] })
      assert.match(problems.map(({ code }) => code).join(), /used-before|same-id/)
    }
  }
}

interface Kind {
  readonly decide?: (view: RotationView) => Rotation
  readonly regress?: boolean
  readonly isDirect?: boolean
  /** While IPsec is off. */
  readonly operatorSleeps?: boolean
  /** It takes it that each has read what it says itself. */
  readonly isHasty?: boolean
}

interface Published {
  readonly boot: number
  /** Undefined: IPsec is off there. */
  readonly words: IpsecWords | undefined
  readonly reading: Reading | undefined
}

interface Node {
  readonly name: string
  isUp: boolean
  /** It has IPsec's device, or is about to. */
  isOn: boolean
  boot: number
  // engine
  installed: KeyRef[]
  removed: KeyRef[]
  readonly slots: Map<string, number>
  readonly inForce: Map<string, KeyRef>
  readonly heard: Map<string, true>
  // agent
  sees: Map<string, number>
  said: IpsecWords[]
  known: KeyRef[]
  reported: { installed: readonly KeyRef[] | undefined; sending: ReadonlyMap<string, KeyRef> }
  quiet: Quiet | undefined
  greeting: Greeting
  look: Look
  reading: Reading | undefined
  isUnanswered: boolean
  steps: (() => void)[]
  /** Neither reads nor writes arrive; writes arrive and their answers do not. */
  isCut: boolean
  isDeaf: boolean
}

function newNode(name: string): Node {
  return {
    name,
    isUp: false,
    isOn: true,
    boot: 0,
    installed: [],
    removed: [],
    slots: new Map(),
    inForce: new Map(),
    heard: new Map(),
    sees: new Map(),
    said: [],
    known: [],
    reported: { installed: undefined, sending: new Map() },
    quiet: undefined,
    greeting: new Greeting(name),
    look: { known: new Map(), sayAgain: false, wakeAt: undefined },
    reading: undefined,
    isUnanswered: false,
    steps: [],
    isCut: false,
    isDeaf: false,
  }
}

function advance(sees: Map<string, number>, object: string, most: number): void {
  sees.set(object, Math.min(most, (sees.get(object) ?? 0) + 1))
}

function ids(keys: readonly KeyRef[]): string {
  return keys.map(({ id, fingerprint }) => `${id}:${Number(fingerprint)}`).join()
}

type Move =
  | { readonly do: 'turn' | 'cut' | 'deaf' | 'heal'; readonly n: number }
  | { readonly do: 'boot' | 'crash' | 'leave'; readonly n: number }
  | { readonly do: 'run' | 'restart'; readonly n: number; readonly count: number }
  | { readonly do: 'deliver' | 'sync'; readonly n: number; readonly object: string }
  | { readonly do: 'hear'; readonly n: number; readonly m: number }
  | { readonly do: 'tell'; readonly object: string }
  | {
      readonly do:
        | 'operate'
        | 'next'
        | 'skip'
        | 'same-id'
        | 'put-back'
        | 'reuse'
        | 'force'
        | 'tick'
        | 'round'
        | 'restart-operator'
        | 'on'
        | 'off'
        | 'delete'
    }

const SIZE = 5
const n = fc.integer({ min: 0, max: SIZE - 1 })
const count = fc.integer({ min: 1, max: 8 })
const object = fc.oneof(
  fc.constantFrom('kept', 'kept', 'user', 'config'),
  n.map((i) => `node/${i}`),
)
const of = <T extends string>(...names: T[]) => fc.constantFrom(...names)
const move: fc.Arbitrary<Move> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ do: of('run'), n, count }) },
  { weight: 6, arbitrary: fc.record({ do: of('turn'), n }) },
  { weight: 16, arbitrary: fc.record({ do: of('deliver'), n, object }) },
  { weight: 14, arbitrary: fc.record({ do: of('sync'), n, object }) },
  { weight: 4, arbitrary: fc.record({ do: of('hear'), n, m: n }) },
  { weight: 4, arbitrary: fc.record({ do: of('tell'), object }) },
  { weight: 4, arbitrary: fc.record({ do: of('operate', 'restart-operator') }) },
  { weight: 5, arbitrary: fc.record({ do: of('tick') }) },
  { weight: 1, arbitrary: fc.record({ do: of('round') }) },
  { weight: 3, arbitrary: fc.record({ do: of('next', 'next', 'skip') }) },
  { weight: 1, arbitrary: fc.record({ do: of('same-id', 'put-back', 'reuse', 'force', 'delete') }) },
  { weight: 1, arbitrary: fc.record({ do: of('off', 'on', 'on') }) },
  { weight: 2, arbitrary: fc.record({ do: of('cut', 'deaf', 'heal', 'heal'), n }) },
  { weight: 1, arbitrary: fc.record({ do: of('restart'), n, count }) },
  { weight: 1, arbitrary: fc.record({ do: of('boot', 'boot', 'crash', 'leave'), n }) },
)

const CHANGES: readonly string[] = ['next', 'skip', 'same-id', 'put-back', 'reuse', 'delete']

function step(cluster: Cluster, m: Move): void {
  const user = cluster.used.at(-1)!
  if (cluster.isDirect && CHANGES.includes(m.do) && !(m.do === 'next' && cluster.isSettled)) return
  if (m.do === 'turn') cluster.turn(m.n)
  else if (m.do === 'run') {
    for (let i = 0; i < m.count; i++) {
      cluster.turn(m.n)
      cluster.check()
    }
  } else if (m.do === 'deliver') cluster.deliver(m.n, m.object)
  else if (m.do === 'sync') cluster.sync(m.n, m.object)
  else if (m.do === 'hear') cluster.hear(m.n, m.m)
  else if (m.do === 'tell') cluster.tellOperator(m.object)
  else if (m.do === 'operate') cluster.operate()
  else if (m.do === 'tick') cluster.now += 400
  else if (m.do === 'round') cluster.round()
  else if (m.do === 'next') cluster.patch((user.id % 15) + 1)
  else if (m.do === 'skip') cluster.patch(((user.id + 1) % 15) + 1)
  else if (m.do === 'same-id') cluster.patch(user.id)
  else if (m.do === 'put-back') cluster.putBack(cluster.used.at(-2) ?? user)
  else if (m.do === 'reuse') cluster.putBack(cluster.used[0]!)
  else if (m.do === 'delete') cluster.deleteSecret()
  else if (m.do === 'on' || m.do === 'off') cluster.configure(m.do)
  else if (m.do === 'cut') cluster.nodes[m.n]!.isCut = true
  else if (m.do === 'deaf') cluster.nodes[m.n]!.isDeaf = true
  else if (m.do === 'heal') cluster.nodes[m.n]!.isCut = cluster.nodes[m.n]!.isDeaf = false
  else if (m.do === 'restart-operator') {
    cluster.restartOperator()
    cluster.operate()
  } else if (m.do === 'restart') cluster.restart(m.n, m.count)
  else if (m.do === 'force') cluster.force()
  else if (m.do === 'boot' || m.do === 'crash' || m.do === 'leave') cluster[m.do](m.n)
  cluster.check()
}

function run(cluster: Cluster, moves: readonly Move[]): void {
  for (const [at, m] of moves.entries()) {
    try {
      step(cluster, m)
    } catch (error) {
      const done = moves.slice(0, at + 1).map((each) => JSON.stringify(each))
      throw new Error(`${(error as Error).message}\nafter ${done.join('\n')}`, { cause: error })
    }
  }
}

const moves = fc.array(move, { minLength: 20, maxLength: 160, size: 'max' })
const RUNS = { seed: 20261121 }

function search(numRuns: number, kind: Kind, endOnFailure = false): void {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 15 }), fc.integer({ min: 1, max: SIZE }), moves, (firstId, joined, list) => {
      run(new Cluster(joined, firstId, kind), list)
    }),
    { ...RUNS, numRuns, endOnFailure },
  )
}

test('no order, delay, restart, join or change of mind loses a packet, or a pair its key', () => {
  search(1200, {})
})

test('nor do starts that see older words of others', () => {
  search(600, { regress: true })
})

test('nor files of their own that nobody keeps', () => {
  search(400, { isDirect: true })
})

test('whatever happened, quiet brings all nodes to the newest key alone', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 15 }),
      fc.boolean(),
      fc.boolean(),
      moves,
      (firstId, regress, isDirect, list) => {
        const cluster = new Cluster(3, firstId, { regress, isDirect })
        run(cluster, list)
        cluster.bootAll()
        cluster.configure('on')
        if (cluster.user === undefined) cluster.patch((cluster.used.at(-1)!.id % 15) + 1)
        cluster.settle(36)
        if (!isDirect) cluster.goForward()
        cluster.checkEnd()
      },
    ),
    { ...RUNS, numRuns: 400 },
  )
})

function searchOff(numRuns: number, kind: Kind): void {
  const change = of('same', 'same-id', 'next', 'delete', 'delete-and-make', 'put-back')
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 15 }), fc.boolean(), moves, change, (firstId, regress, list, what) => {
      const cluster = new Cluster(3, firstId, { regress, ...kind })
      run(cluster, list)
      cluster.bootAll()
      if (cluster.user === undefined) cluster.patch((cluster.used.at(-1)!.id % 15) + 1)
      cluster.configure('off')
      cluster.settle(3)
      for (const { isUp, installed } of cluster.nodes) assert.deepEqual(isUp ? installed : [], [])
      const before = cluster.used.at(-1)!
      if (what === 'same-id') cluster.patch(before.id)
      else if (what === 'next') cluster.patch((before.id % 15) + 1)
      else if (what === 'put-back') cluster.putBack(cluster.used[0]!)
      else if (what !== 'same') cluster.deleteSecret()
      cluster.settle(2)
      if (what === 'delete-and-make') cluster.patch(before.id)
      const kept = cluster.latest('kept') as Kept
      for (const key of kept.texts) assert.ok(sameKey(key, cluster.user), `${ids([key])} is kept, and nobody has it`)
      cluster.configure('on')
      cluster.settle(12)
      const { user } = cluster
      if (user !== undefined) {
        cluster.goForward()
        return cluster.checkEnd(cluster.user)
      }
      for (const { name, isUp, installed } of cluster.nodes) if (isUp) assert.deepEqual(installed, [], name)
    }),
    { ...RUNS, numRuns },
  )
}

test('what nobody has any more while IPsec is off is not what it begins by again', () => {
  searchOff(150, {})
  assert.throws(
    () => searchOff(150, { operatorSleeps: true }),
    (error: Error) => /is kept, and nobody has it/.test((error.cause as Error).message),
  )
})

test('the search finds what a rotation without these rules loses', () => {
  const kept = ({ sources }: RotationView) => sources.kept.at(-1)
  const mutants: Record<string, (view: RotationView) => Rotation> = {
    'announced before it is installed': (view) => {
      const it = rotate(view)
      const isSaid = it.receive.every((key) => view.own.said.some(({ receives }) => hasKey(receives, key)))
      return isSaid ? it : { ...it, step: 'publish', words: { ...it.words, receives: it.receive } }
    },
    'retired whatever others send by': (view) => {
      const peers = view.peers.map((peer) => ({
        ...peer,
        words: peer.words && { ...peer.words, sends: peer.words.sends.filter((key) => sameKey(key, kept(view))) },
      }))
      return rotate({ ...view, peers })
    },
    'sent by what was given up': (view) => {
      const said = view.own.said.map(({ receives }) => ({ receives, sends: receives }))
      const { send } = rotate({ ...view, own: { ...view.own, said } })
      const it = rotate(view)
      const isSame = [...send].every(([name, key]) => sameKey(view.own.sending.get(name), key))
      return isSame ? it : { ...it, send, step: 'apply' }
    },
    'removed without a second for what is in flight': (view) => {
      const { quiet } = rotate(view)
      return rotate({ ...view, quiet: quiet && { ...quiet, since: view.now - FLIGHT_TIME } })
    },
    'said before the barrier': (view) => {
      const it = rotate(view)
      const { words } = rotate({ ...view, own: { ...view.own, installed: it.receive, sending: it.send } })
      return it.step !== 'apply' || view.own.said.length === 0 || sameWords(words, view.own.said.at(-1))
        ? it
        : { ...it, step: 'publish', words }
    },
  }
  for (const [name, decide] of Object.entries(mutants)) {
    assert.throws(
      () => search(1200, { decide }, true),
      (error: Error) => /sends by|just now|receives again|stops sending|too early/.test((error.cause as Error).message),
      name,
    )
  }
})

test('the search finds a node that greets another before that can know it', () => {
  assert.throws(
    () => search(50, { isHasty: true }, true),
    (error: Error) => /greets . too early/.test((error.cause as Error).message),
  )
})

function sameWords(a: IpsecWords, b: IpsecWords | undefined): boolean {
  return b !== undefined && ids(a.receives) === ids(b.receives) && ids(a.sends) === ids(b.sends)
}
