import type { CiliumNode } from '#core/api/cilium-node.ts'
import type { NodeFacts } from '#core/api/node.ts'
import { type KeyRef, sameKey } from '#core/ipsec/key.ts'
import { IPSEC_WORDS_ANNOTATION, type IpsecWords, parseIpsecWords } from '#core/ipsec/words.ts'

/** What the cluster says about one rotation. */
export interface RotationView {
  readonly newest: KeyRef
  /** Keys whose texts the operator keeps, oldest first; undefined: it keeps nothing yet. */
  readonly kept: readonly KeyRef[] | undefined
  /** Of the cluster. A CiliumNode without its Node does not count. */
  readonly nodes: readonly Pick<NodeFacts, 'name' | 'ready'>[]
  readonly ciliumNodes: readonly CiliumNode[]
  /** Nodes that are not waited for. */
  readonly forced: readonly string[]
  /** RFC 3339: since when the operator keeps more than one; undefined: it does not, or has not said so. */
  readonly since?: string | undefined
}

export interface RotationProgress {
  readonly done: boolean
  /** Ids of older keys that are still held somewhere. */
  readonly older: readonly number[]
  /** Sorted. */
  readonly waitingFor: readonly string[]
  /** One line. */
  readonly text: string
}

/** What one node says of its keys. */
export interface NodeKeys {
  readonly name: string
  readonly ready: boolean
  /** Undefined: it has said nothing yet. */
  readonly words: IpsecWords | undefined
}

/** Of the nodes of the cluster, sorted; of those that are given up, too. */
export function nodeKeys({ nodes, ciliumNodes }: Pick<RotationView, 'nodes' | 'ciliumNodes'>): readonly NodeKeys[] {
  const words = new Map(
    ciliumNodes.map(({ metadata }) => [metadata.name, parseIpsecWords(metadata.annotations?.[IPSEC_WORDS_ANNOTATION])]),
  )
  return nodes
    .filter(({ name }) => words.has(name))
    .map(({ name, ready }) => ({ name, ready, words: words.get(name) }))
    .toSorted((a, b) => a.name.localeCompare(b.name))
}

/** How far the cluster is on the way to `newest`: all receive it, all send by it alone, nobody receives another. */
export function rotationProgress(view: RotationView): RotationProgress {
  const { newest, kept } = view
  const target = kept?.at(-1)
  if (target !== undefined && kept !== undefined && kept.length > 1 && !kept.some((key) => sameKey(key, newest))) {
    // a third key waits: never are more than two held
    const first = rotationProgress({ ...view, newest: target })
    return {
      ...first,
      done: false,
      text: `key ${newest.id} waits until key ${target.id} is the only one: ${first.text}`,
    }
  }
  const counted = nodeKeys(view).filter(({ name }) => !view.forced.includes(name))
  const older = olderOf(view)
  const steps = [
    {
      doing: `receive key ${newest.id}`,
      has: ({ receives }: IpsecWords) => receives.some((key) => sameKey(key, newest)),
    },
    { doing: `send by key ${newest.id} alone`, has: ({ sends }: IpsecWords) => isAll(sends, newest) },
    { doing: `receive key ${newest.id} alone`, has: ({ receives }: IpsecWords) => isAll(receives, newest) },
  ]
  for (const { doing, has } of steps) {
    const behind = counted.filter((node) => node.words === undefined || !has(node.words))
    if (behind.length === 0) continue
    const names = behind.map((node) => (node.ready ? node.name : `${node.name} (NotReady)`))
    const shown = names.slice(0, 5).join(', ') + (names.length > 5 ? ` and ${names.length - 5} more` : '')
    const text = `${counted.length - behind.length} of ${counted.length} nodes ${doing}, waiting for ${shown}`
    return { done: false, older, waitingFor: behind.map(({ name }) => name), text }
  }
  const others = kept?.filter((key) => !sameKey(key, newest)) ?? []
  if (kept === undefined || others.length > 0 || !kept.some((key) => sameKey(key, newest))) {
    return { done: false, older, waitingFor: [], text: `waiting for the operator to keep key ${newest.id} alone` }
  }
  return { done: true, older, waitingFor: [], text: `key ${newest.id} is the only one on ${counted.length} nodes` }
}

function olderOf({ newest, kept, ciliumNodes }: RotationView): readonly number[] {
  const said = ciliumNodes.flatMap(({ metadata }) => {
    const words = parseIpsecWords(metadata.annotations?.[IPSEC_WORDS_ANNOTATION])
    return words === undefined ? [] : [...words.receives, ...words.sends]
  })
  const others = [...(kept ?? []), ...said].filter((key) => !sameKey(key, newest))
  return [...new Set(others.map(({ id }) => id))]
}

/** Also of none: a node that is alone sends by no key. */
function isAll(keys: readonly KeyRef[], key: KeyRef): boolean {
  return keys.every((other) => sameKey(other, key))
}
