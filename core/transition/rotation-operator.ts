import { hasKey, type KeyFingerprint, type KeyRef, MAX_HELD_KEYS, sameKey } from '#core/ipsec/key.ts'
import type { IpsecWords } from '#core/ipsec/words.ts'
import { type RotationPeer, type UnusableKey } from './rotation.ts'
import { judgeNewText, type RotationProblem } from './rotation-status.ts'

/**
 * The operator's half of a rotation: it keeps the texts that are alive, so that a node that starts in the middle has both,
 * and their one order. It alone writes them (Secret `pellicle-ipsec-keys`, core/api/ipsec-secrets.ts), on the resource version that
 * it read. Agents take a text when it is kept, so a third one waits here, and none is missed by somebody.
 */
export interface KeepView {
  readonly kept: Kept
  /** IPsec is asked for. While it is not, no text is taken, and none outlives the user's. */
  readonly wanted: boolean
  /** The user's present text, line by line; empty when there is none or it cannot be read. */
  readonly user: readonly KeyRef[]
  /** All nodes of the cluster, ready or not. */
  readonly nodes: readonly RotationPeer[]
  /** Keys that the cluster's datapath does not have. */
  readonly unusable: readonly UnusableKey[]
}

export interface Kept {
  /** Oldest first. */
  readonly texts: readonly KeyRef[]
  /** Of texts that are used no more: they are never used again. Oldest first. */
  readonly retired: readonly KeyFingerprint[]
  /** Names of nodes that nobody waits for until the oldest text is dropped (`--force`). */
  readonly forced: readonly string[]
}

export interface Keeping {
  /** Equal to {@link KeepView.kept} when nothing is to be written. */
  readonly kept: Kept
  readonly changed: boolean
  /** Nodes that keep the oldest text alive, sorted. */
  readonly waitingFor: readonly string[]
  readonly problems: readonly RotationProblem[]
}

/** As many fingerprints are remembered: more than one a day for ten years. */
const MAX_RETIRED = 4096

export function keepTexts(view: KeepView): Keeping {
  let { texts, retired, forced } = view.kept
  const counted = view.nodes.filter(({ name }) => !forced.includes(name))
  const oldest = texts[0]
  let waitingFor: readonly string[] = []
  // what was forced is over
  if (texts.length < 2 && forced.length > 0) forced = []
  if (oldest !== undefined && texts.length > 1) {
    const newer = texts.slice(1)
    waitingFor = counted
      .filter(({ words }) => words !== undefined && !hasLetGo(words, oldest, newer))
      .map(({ name }) => name)
      .sort()
    if (waitingFor.length === 0) {
      texts = newer
      retired = [...retired, oldest.fingerprint].slice(-MAX_RETIRED)
      forced = []
    }
  }
  const problems: RotationProblem[] = []
  if (!view.wanted) {
    // Nobody has a device, and the next one has another boot id, so each text may begin anew. Whoever took theirs away, or
    // put another in its place, must not find it in use when IPsec comes back.
    const staying = texts.filter((key) => hasKey(view.user, key))
    if (staying.length < texts.length && view.nodes.every(({ words }) => words === undefined)) texts = staying
    return outcome()
  }
  const alive = view.nodes.flatMap(({ words }) => [...(words?.receives ?? []), ...(words?.sends ?? [])])
  // at the very first there may be two lines at once; later only the last is news
  for (const key of texts.length === 0 ? view.user.slice(-MAX_HELD_KEYS) : view.user.slice(-1)) {
    if (sameKey(texts.at(-1), key)) continue
    const problem = judgeNewText(key, { texts, retired, alive, unusable: view.unusable })
    if (problem === undefined) texts = [...texts, key]
    else problems.push(problem)
  }
  return outcome()

  function outcome(): Keeping {
    const changed = texts !== view.kept.texts || retired !== view.kept.retired || forced !== view.kept.forced
    return { kept: changed ? { texts, retired, forced } : view.kept, changed, waitingFor, problems }
  }
}

/** A node that runs without any key has nothing to let go. */
function hasLetGo({ receives, sends }: IpsecWords, oldest: KeyRef, newer: readonly KeyRef[]): boolean {
  if (receives.length === 0 && sends.length === 0) return true
  return !hasKey(receives, oldest) && !hasKey(sends, oldest) && newer.some((key) => hasKey(receives, key))
}
