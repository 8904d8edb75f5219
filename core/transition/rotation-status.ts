import { hasKey, type KeyFingerprint, type KeyRef, MAX_HELD_KEYS, sameKey } from '#core/ipsec/key.ts'
import { type Rotation, type RotationView, type UnusableKey } from './rotation.ts'

/** Something that keeps a rotation from ending, told so that somebody can act on it. */
export interface RotationProblem {
  /** Stable, for programs: `ipsec.rotation.…`. */
  readonly code: string
  /** `Secret/cilium-ipsec-keys`, `CiliumNode/kind-worker`. */
  readonly object: string
  /** One sentence. */
  readonly message: string
  readonly remedy: string
}

const SECRET = 'Secret/cilium-ipsec-keys'
const FORWARD = 'Go forward: put a new random key into the Secret, with another key id (cilium encryption rotate-key).'

/** Why `key` cannot be the next text now; undefined when it can. */
export function judgeNewText(
  key: KeyRef,
  known: {
    readonly texts: readonly KeyRef[]
    readonly retired: readonly KeyFingerprint[]
    /** Held by some node, whatever is kept. */
    readonly alive: readonly KeyRef[]
    readonly unusable: readonly UnusableKey[]
  },
): RotationProblem | undefined {
  const problem = (code: string, message: string, remedy: string) => ({
    code: `ipsec.rotation.${code}`,
    object: SECRET,
    message,
    remedy,
  })
  const { texts, retired, alive } = known
  const newest = texts.at(-1)
  const live = [...texts, ...alive]
  if (hasKey(texts, key)) {
    return problem('put-back', `key ${name(key)} was put back while ${name(newest)} is taking over`, FORWARD)
  }
  if (retired.includes(key.fingerprint)) {
    return problem('used-before', `the key under id ${key.id} (${key.fingerprint}) was used before`, FORWARD)
  }
  const same = live.find(({ id, fingerprint }) => fingerprint === key.fingerprint && id !== key.id)
  if (same !== undefined) {
    return problem('same-key', `key id ${key.id} has the same key as id ${same.id}: that is no rotation`, FORWARD)
  }
  const clash = live.find(({ id, fingerprint }) => id === key.id && fingerprint !== key.fingerprint)
  if (clash !== undefined) {
    return problem('same-id', `key id ${key.id} is held with another key (${clash.fingerprint})`, FORWARD)
  }
  const unusable = known.unusable.find((it) => sameKey(it.key, key))
  if (unusable !== undefined) {
    return problem('unusable', `key ${name(key)} cannot be used: ${unusable.missing}`, unusable.remedy)
  }
  if (texts.length >= MAX_HELD_KEYS) {
    const wait = 'Nothing is to be done: it is taken as soon as the rotation before it is over.'
    return problem('third-key', `key ${name(key)} waits until ${name(texts[0])} is let go`, wait)
  }
  return undefined
}

/** What an agent sees that is wrong, most of it with a peer. */
export function findProblems(view: RotationView, receive: readonly KeyRef[]): readonly RotationProblem[] {
  const problems: RotationProblem[] = []
  const { sources, own, peers } = view
  const add = (code: string, object: string, message: string, remedy: string) =>
    problems.push({ code: `ipsec.rotation.${code}`, object, message, remedy })
  const latest = sources.user.at(-1)
  const texts = sources.operator && sources.kept.length > 0 ? sources.kept : receive
  if (latest !== undefined && !sameKey(texts.at(-1), latest) && texts.length > 0) {
    const { retired, unusable } = sources
    const problem = judgeNewText(latest, { texts, retired, alive: receive, unusable })
    if (problem !== undefined) problems.push(problem)
  }
  for (const { key, missing, remedy } of sources.unusable) {
    if (hasKey(sources.kept, key)) add('unusable', SECRET, `key ${name(key)} is not taken: ${missing}`, remedy)
  }
  for (const key of own.said.at(-1)?.receives ?? []) {
    if (hasKey(own.known, key) || receive.length === 0) continue
    const remedy = 'Put it back as a line before the new one, or wait until all nodes have the new one.'
    add('lost-text', SECRET, `this node has said that it receives by key ${name(key)} and has its text no more`, remedy)
  }
  for (const peer of peers) {
    const object = `CiliumNode/${peer.name}`
    const theirs = peer.words?.receives ?? []
    const other = theirs.find((key) =>
      receive.some(({ id, fingerprint }) => id === key.id && fingerprint !== key.fingerprint),
    )
    if (other !== undefined) {
      const message = `${peer.name} has another text under key id ${other.id} (${other.fingerprint})`
      add('peer-text', object, message, 'Give all nodes the same text; a new one needs a key id of its own.')
    } else if (theirs.length > 0 && receive.length > 0 && !receive.some((key) => hasKey(theirs, key))) {
      const message = `${peer.name} has no key in common with this node: it has ${list(theirs)}, this node ${list(receive)}`
      add('no-common-key', object, message, 'Traffic to it waits. See why its agent does not take the present key.')
    }
  }
  return problems
}

/** `receive` is what this node is going to have. */
export function describeRotation(
  view: RotationView,
  receive: readonly KeyRef[],
  waitingFor: readonly string[],
): Pick<Rotation, 'phase' | 'text'> {
  const [oldest] = receive
  const newest = receive.at(-1)
  if (oldest === undefined || newest === undefined) {
    const latest = view.sources.user.at(-1)
    if (latest !== undefined && view.sources.operator) {
      return { phase: 'none', text: `no key yet: key ${latest.id} waits for the operator to take it up` }
    }
    return { phase: 'none', text: 'no key: traffic to other nodes waits until there is a key in the Secret' }
  }
  if (receive.length === 1) return { phase: 'steady', text: `key ${name(newest)}` }
  const having = view.peers.filter(({ words }) => hasKey(words?.receives, newest)).length
  const sent = [...view.own.sending.values()].filter((key) => sameKey(key, newest)).length
  const some = waitingFor.slice(0, 3).join(', ') + (waitingFor.length > 3 ? ` and ${waitingFor.length - 3} more` : '')
  const whom = waitingFor.length === 0 ? '' : `, waiting for ${some}`
  const total = view.peers.length
  const progress = `${having} of ${total} other nodes have it, ${sent} are sent to by it${whom}`
  return { phase: 'rotating', text: `from key ${name(oldest)} to ${name(newest)}: ${progress}` }
}

function name(key: KeyRef | undefined): string {
  return key === undefined ? 'none' : `${key.id} (${key.fingerprint})`
}

function list(keys: readonly KeyRef[]): string {
  return keys.map(name).join(', ')
}
