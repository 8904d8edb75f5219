import { hostname } from 'node:os'
import { EVENTS, type KubeEvent, type ObjectReference } from '#core/api/resources.ts'
import type { KubeClient } from './client.ts'
import { hasCode } from './errors.ts'
import { microTime } from './leader.ts'

export interface EventNote {
  readonly regarding: ObjectReference
  readonly type: 'Normal' | 'Warning'
  /** UpperCamelCase, for programs; up to 128 characters. */
  readonly reason: string
  /** What was done or is to do, UpperCamelCase. */
  readonly action: string
  /** For people; cut at 1024 bytes as the API demands. */
  readonly note: string
}

interface Known {
  readonly name: string
  readonly namespace: string
  count: number
  written: number
}

/** A repeated event is written again at most this often; the count tells how often it happened. */
const REPEAT_MS = 5 * 60_000
const MOST_KNOWN = 256
const MOST_NOTE_BYTES = 1024

/**
 * Writes events.k8s.io/v1 Events. The same note about the same object becomes a series on one object. An event that
 * cannot be written is told to `onFailure` and forgotten: nothing depends on it.
 */
export class EventRecorder {
  readonly #client: KubeClient
  readonly #controller: string
  readonly #instance: string
  readonly #onFailure: (error: unknown) => void
  readonly #known = new Map<string, Known>()

  /** @param controller e.g. `pellicle.io/operator` */
  constructor(client: KubeClient, controller: string, onFailure: (error: unknown) => void = () => undefined) {
    this.#client = client
    this.#controller = controller
    this.#instance = hostname().slice(0, 128)
    this.#onFailure = onFailure
  }

  async record(event: EventNote, signal?: AbortSignal): Promise<void> {
    const { clock } = this.#client
    const [now, at] = [clock.now(), clock.steady()]
    const key = [event.regarding.kind, event.regarding.namespace, event.regarding.name, event.reason, event.note].join(
      '\n',
    )
    const known = this.#known.get(key)
    try {
      if (known !== undefined) {
        known.count++
        if (at - known.written < REPEAT_MS) return
        known.written = at
        const series = { count: known.count, lastObservedTime: microTime(now) }
        await this.#client.patch(EVENTS, known.name, { series }, { namespace: known.namespace, signal })
        return
      }
      // what regards no namespace is kept in `default`, where kubectl describe looks for it
      const namespace = event.regarding.namespace ?? 'default'
      const name = `${event.regarding.name.slice(0, 200)}.${crypto.randomUUID().slice(0, 16).replaceAll('-', '')}`
      const object: KubeEvent = {
        metadata: { name, namespace },
        eventTime: microTime(now),
        reportingController: this.#controller,
        reportingInstance: this.#instance,
        action: event.action,
        reason: event.reason,
        type: event.type,
        note: cut(event.note),
        regarding: event.regarding,
      }
      this.#remember(key, { name, namespace, count: 1, written: at })
      await this.#client.create(EVENTS, object, { namespace, signal })
    } catch (error) {
      this.#known.delete(key)
      // the server forgets events after an hour: the next one begins a new series
      if (known === undefined || !hasCode(error, 'kube.not-found')) this.#onFailure(error)
    }
  }

  #remember(key: string, known: Known): void {
    const oldest = this.#known.keys().next()
    if (this.#known.size >= MOST_KNOWN && oldest.done !== true) this.#known.delete(oldest.value)
    this.#known.set(key, known)
  }
}

function cut(note: string): string {
  if (Buffer.byteLength(note) <= MOST_NOTE_BYTES) return note
  return `${Buffer.from(note)
    .subarray(0, MOST_NOTE_BYTES - 3)
    .toString('utf8')
    .replace(/\uFFFD+$/, '')}...`
}
