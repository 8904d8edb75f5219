import { fromBase64, toBase64 } from '#core/bytes/text.ts'
import type { KeyFingerprint, KeyRef } from '#core/ipsec/key.ts'

/** The two Secrets that hold IPsec keys: the user's, and the one that the operator keeps while it is rotated. */

/** Cilium's names; values `encryption.ipsec.secretName` and `encryption.ipsec.keyFile`. */
export const IPSEC_SECRET = 'cilium-ipsec-keys'
export const IPSEC_SECRET_FIELD = 'keys'

/** Written by the operator alone: what a node needs that starts in the middle of a rotation. */
export const KEPT_SECRET = 'pellicle-ipsec-keys'

/** On {@link KEPT_SECRET}, written by the CLI: nodes that a rotation does not wait for, see {@link formatForced}. */
export const FORCED_ANNOTATION = 'pellicle.io/rotation-without'

/** On {@link KEPT_SECRET}, written by the operator: RFC 3339, since when there is more than one key. */
export const ROTATION_BEGAN_ANNOTATION = 'pellicle.io/rotation-began'

const TEXTS_FIELD = 'keys'
const RETIRED_FIELD = 'retired'

export interface KeptKeys {
  /** Key texts in use, oldest first, the newest last; each as the user wrote it. */
  readonly texts: readonly string[]
  /** Oldest first. None of them may come back: their sequence numbers are spent. */
  readonly retired: readonly KeyRef[]
}

type SecretData = Readonly<Record<string, string>>

/** The text of a field of a Secret's `data`; undefined when it is not there, or no base64 of UTF-8. */
export function secretText(data: SecretData | undefined, field: string): string | undefined {
  const bytes = fromBase64(data !== undefined && Object.hasOwn(data, field) ? (data[field] ?? '') : '-')
  if (bytes === undefined) return undefined
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return undefined
  } finally {
    bytes.fill(0)
  }
}

/** A Secret of type Opaque with these texts. */
export function secretOf(name: string, texts: SecretData) {
  const data = Object.fromEntries(Object.entries(texts).map(([field, text]) => [field, encodeSecret(text)]))
  return { metadata: { name }, type: 'Opaque', data }
}

/** `data` of {@link KEPT_SECRET}: a line for each key text, and one `ID:FINGERPRINT` for each that is retired. */
export function formatKeptKeys({ texts, retired }: KeptKeys): SecretData {
  return {
    [TEXTS_FIELD]: encodeSecret(asLines(texts.map((text) => text.trim()))),
    [RETIRED_FIELD]: encodeSecret(asLines(retired.map(formatRef))),
  }
}

/** Undefined when `data` is not what {@link formatKeptKeys} makes. */
export function parseKeptKeys(data: SecretData | undefined): KeptKeys | undefined {
  const texts = lines(secretText(data, TEXTS_FIELD))
  const retired = lines(secretText(data, RETIRED_FIELD))?.map(parseRef)
  if (texts === undefined || retired?.every((ref) => ref !== undefined) !== true) return undefined
  return { texts, retired }
}

/**
 * `ID:FINGERPRINT node-a,node-b`: while that key is the newest, these nodes are not waited for. For another key it says
 * nothing: a node that was lost once is waited for at the next rotation.
 */
export function formatForced(newest: KeyRef, nodes: readonly string[]): string {
  return `${formatRef(newest)} ${nodes.join(',')}`
}

/** Nodes that are not waited for while `newest` is the newest key. */
export function parseForced(text: string | undefined, newest: KeyRef | undefined): readonly string[] {
  const match = /^(\S+) (\S+)$/.exec(text ?? '')
  if (match === null || newest === undefined || match[1] !== formatRef(newest)) return []
  return (match[2] as string).split(',')
}

function formatRef({ id, fingerprint }: KeyRef): string {
  return `${id}:${fingerprint}`
}

function parseRef(text: string): KeyRef | undefined {
  const match = /^([1-9][0-9]?):([0-9a-f]{16})$/.exec(text)
  return match === null ? undefined : { id: Number(match[1]), fingerprint: match[2] as KeyFingerprint }
}

/** As a Secret's `data` has it. */
export function encodeSecret(text: string): string {
  return toBase64(new TextEncoder().encode(text))
}

function asLines(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join('')
}

function lines(text: string | undefined): readonly string[] | undefined {
  return text?.split('\n').filter((line) => line.trim() !== '')
}

/** What to type where the Secret was made in the wrong namespace. */
export function copyCommand(secret: string, field: string, from: string, to: string): string {
  const path = field.replaceAll('.', '\\.')
  const text = `kubectl -n ${from} get secret ${secret} -o jsonpath='{.data.${path}}' | base64 -d`
  return `kubectl -n ${to} create secret generic ${secret} --from-literal=${field}="$(${text})"`
}

/** Finds it, for whoever may look into all namespaces. */
export function findCommand(secret: string): string {
  return `kubectl get secrets -A --field-selector metadata.name=${secret}`
}
