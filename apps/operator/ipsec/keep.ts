import { type KeptKeys, parseForced } from '#core/api/ipsec-secrets.ts'
import type { Fault } from '#core/fault/fault.ts'
import { hasKey, type IpsecKey, type KeyRef, sameKey } from '#core/ipsec/key.ts'
import { parseKeyTexts, refuseWeak } from '#core/ipsec/key-text.ts'
import { supportedInUserspace } from '#core/ipsec/userspace.ts'
import { keyWarnings } from '#core/ipsec/weak-key.ts'
import type { RotationPeer, UnusableKey } from '#core/transition/rotation.ts'
import { keepTexts } from '#core/transition/rotation-operator.ts'
import type { RotationProblem } from '#core/transition/rotation-status.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'

/** What the operator sees of keys: two Secrets, and what nodes say. Texts are secret; nothing else here is. */
export interface KeepInput {
  /** The user's; undefined: there is none. */
  readonly userText: string | undefined
  readonly kept: KeptKeys
  /** IPsec is asked for. */
  readonly wanted: boolean
  /** FORCED_ANNOTATION of the kept Secret. */
  readonly forced: string | undefined
  /** Of the nodes that the cluster has. */
  readonly nodes: readonly RotationPeer[]
  /** False: the kernel's datapath takes whatever the kernel has. */
  readonly userspace: boolean
}

export interface KeepOutcome {
  /** To be written; undefined: all stays. */
  readonly next: KeptKeys | undefined
  /** What is kept after that, oldest first. */
  readonly keys: readonly KeyRef[]
  /** Taken up by {@link next}. */
  readonly added: readonly KeyRef[]
  /** Let go by {@link next}, never to be used again. */
  readonly retired: readonly KeyRef[]
  /** Forgotten by {@link next}, since IPsec is off and the user's Secret has them no more. */
  readonly forgotten: readonly KeyRef[]
  /** FORCED_ANNOTATION has done what it was for. */
  readonly forcedIsOver: boolean
  /** Names of nodes that keep the oldest key alive, sorted. */
  readonly waitingFor: readonly string[]
  /** The newest key, as soon as every node receives by it while there is an older one. */
  readonly receivedByAll: KeyRef | undefined
  /** The user's text is no key; nothing of it is in here. */
  readonly fault: Fault | undefined
  readonly problems: readonly RotationProblem[]
  /** What is unwise about the key that is taken, a sentence each. */
  readonly warnings: readonly string[]
}

export function keep(input: KeepInput): KeepOutcome {
  const texts = new Map<string, string>()
  const remember = (lines: readonly string[], keys: readonly IpsecKey[]) => {
    for (const [i, key] of keys.entries()) if (!texts.has(nameOf(key))) texts.set(nameOf(key), lines[i] ?? '')
  }
  const kept: IpsecKey[] = []
  for (const text of input.kept.texts) {
    const parsed = parseKeyTexts(text, ipsecHash)
    if (!parsed.ok) continue
    kept.push(...parsed.value)
    remember([text], parsed.value)
  }
  const user = input.userText === undefined ? undefined : parseKeyTexts(input.userText, ipsecHash)
  const weak = user?.ok === true ? refuseWeak(user.value, kept) : undefined
  const userKeys = user?.ok === true ? user.value.filter((key) => refuseWeak([key], kept) === undefined) : []
  remember(input.userText?.trimEnd().split('\n') ?? [], userKeys)
  const refs = kept.map(refOf)
  const retiredBefore = input.kept.retired
  const view = {
    texts: refs,
    retired: retiredBefore.map(({ fingerprint }) => fingerprint),
    forced: parseForced(input.forced, refs.at(-1)),
  }
  const keeping = keepTexts({
    kept: view,
    wanted: input.wanted,
    user: userKeys.map(refOf),
    nodes: input.nodes,
    unusable: input.userspace ? [...kept, ...userKeys].flatMap(unusableKey) : [],
  })
  const keys = keeping.kept.texts
  const gone = refs.filter((key) => !hasKey(keys, key))
  const retired = gone.filter(({ fingerprint }) => keeping.kept.retired.includes(fingerprint))
  const known = [...retiredBefore, ...retired]
  const next = {
    texts: keys.map((key) => texts.get(nameOf(key)) ?? ''),
    retired: keeping.kept.retired.flatMap((fingerprint) => known.find((key) => key.fingerprint === fingerprint) ?? []),
  }
  const newest = [...kept, ...userKeys].find((key) => sameKey(key, keys.at(-1)))
  const warnings = newest === undefined || !input.wanted ? [] : keyWarnings(newest)
  for (const key of [...kept, ...(user?.ok === true ? user.value : [])]) {
    key.encryptionKey.fill(0)
    key.authenticationKey.fill(0)
  }
  return {
    next: keeping.changed ? next : undefined,
    keys,
    added: keys.filter((key) => !hasKey(refs, key)),
    retired,
    forgotten: gone.filter((key) => !hasKey(retired, key)),
    forcedIsOver: view.forced.length > 0 && keeping.kept.forced.length === 0,
    waitingFor: keeping.waitingFor,
    receivedByAll: receivedByAll(keys, input.nodes, keeping.kept.forced),
    fault: !input.wanted ? undefined : user?.ok === false ? user.error : weak,
    problems: keeping.problems,
    warnings,
  }
}

function receivedByAll(
  keys: readonly KeyRef[],
  nodes: readonly RotationPeer[],
  forced: readonly string[],
): KeyRef | undefined {
  const newest = keys.at(-1)
  if (newest === undefined || keys.length < 2) return undefined
  const counted = nodes.filter(({ name, words }) => !forced.includes(name) && (words?.receives.length ?? 0) > 0)
  return counted.length > 0 && counted.every(({ words }) => hasKey(words?.receives, newest)) ? newest : undefined
}

function unusableKey(key: IpsecKey): UnusableKey[] {
  const support = supportedInUserspace(key)
  return support.supported ? [] : [{ key: refOf(key), missing: support.missing, remedy: support.remedy }]
}

function refOf({ id, fingerprint }: KeyRef): KeyRef {
  return { id, fingerprint }
}

function nameOf({ id, fingerprint }: KeyRef): string {
  return `${id}:${fingerprint}`
}
