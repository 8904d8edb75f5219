import type { SecretField } from '#core/api/config-fields.ts'
import { secretText } from '#core/api/ipsec-secrets.ts'
import type { SECRETS } from '#core/api/resources.ts'
import { type KeyRef, sameKey } from '#core/ipsec/key.ts'
import type { EventNote, EventRecorder } from '#io/kube/events.ts'
import type { Log } from '#io/telemetry/log.ts'
import type { OperatorMetrics } from '../metrics.ts'
import type { KeepOutcome } from './keep.ts'

type SecretObject = NonNullable<(typeof SECRETS)['shape']>

export interface KeyNewsOptions {
  readonly namespace: string
  readonly secret: SecretField
  /** While IPsec is off nobody misses a key. */
  readonly wanted: boolean
  readonly recorder: EventRecorder
  readonly log: Log
  readonly metrics: OperatorMetrics
}

/** An Event's reason and a metric's label, by the code of a Fault or of a RotationProblem. */
const REASONS: Readonly<Record<string, string>> = {
  'ipsec.key.weak': 'WeakKey',
  'ipsec.rotation.put-back': 'KeyPutBack',
  'ipsec.rotation.used-before': 'KeyUsedBefore',
  'ipsec.rotation.same-key': 'SameKey',
  'ipsec.rotation.same-id': 'SameKeyId',
  'ipsec.rotation.unusable': 'KeyNotSupported',
  'ipsec.rotation.third-key': 'KeyWaits',
}

type Note = Pick<EventNote, 'type' | 'reason' | 'action' | 'note'>

/** Tells what happens to keys: each thing once, by log and as an Event on the user's Secret. No key is in any of it. */
export class KeyNews {
  readonly #options: KeyNewsOptions
  /** What is wrong and told. */
  readonly #told = new Set<string>()
  #receivedByAll: KeyRef | undefined
  #metered: readonly string[] = []

  constructor(options: KeyNewsOptions) {
    this.#options = options
  }

  /** @param nodes how many the cluster has */
  async tell(user: SecretObject | undefined, outcome: KeepOutcome, nodes: number, signal: AbortSignal): Promise<void> {
    const wrong = this.#wrong(user, outcome)
    const now = new Set(wrong.map(({ note }) => note))
    for (const note of this.#told) {
      if (now.has(note)) continue
      this.#told.delete(note)
      this.#options.log.info('resolved', { was: note })
    }
    const fresh = wrong.filter(({ note }) => !this.#told.has(note))
    for (const { note } of fresh) this.#told.add(note)
    this.#meter(outcome, wrong)
    for (const note of [...this.#progress(outcome, nodes), ...fresh]) await this.#record(user, note, signal)
  }

  #wrong(user: SecretObject | undefined, { fault, problems, warnings, keys }: KeepOutcome): Note[] {
    const { secret, namespace } = this.#options
    const warn = (reason: string, note: string): Note => ({ type: 'Warning', reason, action: 'Check', note })
    const stays = keys.length === 0 ? '' : `. Key ${keys.at(-1)?.id} stays in use`
    const notes: Note[] = []
    if (!this.#options.wanted) return notes
    const where = `Secret ${namespace}/${secret.name}`
    if (user === undefined) {
      const create = `kubectl -n ${namespace} create secret generic ${secret.name} --from-literal=${secret.field}=…`
      notes.push(warn('NoKey', `there is no ${where}${stays}. Create it: cilium encryption create-key, or ${create}`))
    } else if (user.data?.[secret.field] === undefined) {
      notes.push(warn('NoKey', `${where} has no field "${secret.field}"${stays}`))
    } else if (secretText(user.data, secret.field) === undefined) {
      notes.push(warn('MalformedKey', `${where}: what is in field "${secret.field}" is no text${stays}`))
    }
    if (fault !== undefined && user?.data?.[secret.field] !== undefined) {
      const at = fault.field === undefined ? '' : ` (${fault.field})`
      const remedy = fault.remedy === undefined ? '' : `. ${fault.remedy}`
      notes.push(warn(REASONS[fault.code] ?? 'MalformedKey', `${fault.message}${at}${stays}${remedy}`))
    }
    for (const { code, message, remedy } of problems) {
      const reason = REASONS[code] ?? 'KeyRefused'
      const note = `${message}${reason === 'KeyWaits' ? '' : stays}. ${remedy}`
      notes.push(reason === 'KeyWaits' ? { type: 'Normal', reason, action: 'Rotate', note } : warn(reason, note))
    }
    for (const sentence of warnings) notes.push(warn('UnwiseKey', sentence))
    return notes
  }

  #progress({ added, retired, forgotten, keys, receivedByAll }: KeepOutcome, nodes: number): Note[] {
    const normal = (reason: string, note: string): Note => ({ type: 'Normal', reason, action: 'Rotate', note })
    const notes = retired.map((key) =>
      normal(
        'KeyRetired',
        `key ${key.id} is retired: no node uses it any more, key ${keys.at(-1)?.id} is the only one`,
      ),
    )
    for (const { id } of forgotten) {
      const why = 'IPsec is off, no node uses it, and the Secret has it no more'
      notes.push({ type: 'Normal', reason: 'KeyForgotten', action: 'Keep', note: `key ${id} is forgotten: ${why}` })
    }
    const [oldest] = keys
    for (const key of added) {
      if (oldest === undefined || sameKey(oldest, key)) notes.push(normal('KeyTaken', `key ${key.id} is taken`))
      else notes.push(normal('RotationBegan', `rotation from key ${oldest.id} to key ${key.id} began`))
    }
    if (receivedByAll !== undefined && !sameKey(receivedByAll, this.#receivedByAll)) {
      notes.push(normal('KeyReceivedByAll', `all ${nodes} nodes receive by key ${receivedByAll.id}`))
    }
    this.#receivedByAll = receivedByAll
    return notes
  }

  #meter({ keys, waitingFor }: KeepOutcome, wrong: readonly Note[]): void {
    const { metrics } = this.#options
    metrics.ipsecKeys.set(keys.length)
    metrics.ipsecKeyId.set(keys.at(-1)?.id ?? 0)
    metrics.ipsecWaiting.set(waitingFor.length)
    const reasons = wrong.map(({ reason }) => reason)
    for (const reason of new Set([...this.#metered, ...reasons])) {
      metrics.ipsecProblems.set({ reason }, reasons.filter((each) => each === reason).length)
    }
    this.#metered = reasons
  }

  async #record(user: SecretObject | undefined, note: Note, signal: AbortSignal): Promise<void> {
    const { log, recorder, secret, namespace } = this.#options
    if (note.type === 'Warning') log.warn(note.note, { reason: note.reason })
    else log.info(note.note, { reason: note.reason })
    const uid = user?.metadata.uid
    const regarding = {
      apiVersion: 'v1',
      kind: 'Secret',
      name: secret.name,
      namespace,
      ...(uid === undefined ? {} : { uid }),
    }
    await recorder.record({ ...note, regarding }, signal)
  }
}
