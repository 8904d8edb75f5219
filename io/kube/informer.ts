import { type KubeObject, keyOf, type Resource } from '#core/api/object.ts'
import { PODS } from '#core/api/resources.ts'
import type { KubeClient, Selection } from './client.ts'
import { Backoff } from './clock.ts'
import { hasCode } from './errors.ts'
import { type WatchEvent, watch } from './watch.ts'

interface Change<T> {
  readonly type: 'added' | 'changed' | 'removed'
  readonly object: T
  /** What was known before; for `changed` and `removed`. */
  readonly before: T | undefined
}

export interface InformerOptions<T> extends Omit<Selection, 'signal' | 'timeoutMs'> {
  /** Called for each difference, in order, after the copy has it. What it throws goes to `onFailure`. */
  readonly onChange?: (change: Change<T>) => void
  /** Called at once when everything that exists has been seen, the first time only. */
  readonly onSynced?: () => void
  /** Whatever went wrong; the informer goes on by itself. */
  readonly onFailure?: (error: unknown, retryInMs: number) => void
  /** What is kept of an object; standard: all but managedFields. */
  readonly keep?: (object: T) => T
  /** Ask the server to stream what exists instead of listing it; standard: true, with fall back. */
  readonly streaming?: boolean
}

export interface InformerHealth {
  readonly synced: boolean
  readonly objects: number
  /** Milliseconds since the epoch of the last byte from the server; undefined: none yet. */
  readonly lastContact: number | undefined
  /** Milliseconds since we last had a working watch; 0 while one runs. */
  readonly staleMs: number
  readonly resourceVersion: string | undefined
  /** How often everything was fetched anew, the first time included. */
  readonly relists: number
  /** How often a watch was begun. */
  readonly watches: number
  readonly failures: number
  readonly lastFailure: unknown
}

/**
 * A copy of some objects that stays right for as long as the process lives. Nothing ends it but {@link stop}: an API
 * server that is away, slow, restarts, forgets our place (410) or sends garbage costs time, never the copy, which keeps
 * its last known state meanwhile.
 */
export class Informer<T extends KubeObject> {
  readonly resource: Resource<T>
  /** Resolves when everything that exists has been seen once; rejects only by {@link stop}. */
  readonly synced: Promise<void>
  readonly #client: KubeClient
  readonly #options: InformerOptions<T>
  readonly #stopping = new AbortController()
  readonly #backoff: Backoff
  readonly #objects = new Map<string, T>()
  readonly #firstSync = Promise.withResolvers<void>()
  #running: Promise<void> | undefined
  #streaming: boolean
  #resourceVersion: string | undefined
  #isSynced = false
  #lastContact: number | undefined
  #brokenSince: number | undefined
  #relists = 0
  #watches = 0
  #failures = 0
  #lastFailure: unknown

  constructor(client: KubeClient, resource: Resource<T>, options: InformerOptions<T> = {}) {
    const selects = Boolean(options.labelSelector) || Boolean(options.fieldSelector)
    if (resource.plural === PODS.plural && resource.group === PODS.group && !selects) {
      throw new TypeError('an informer of pods needs a selector: a node must not hold the whole cluster')
    }
    this.#client = client
    this.resource = resource
    this.#options = options
    this.#streaming = options.streaming ?? true
    this.#backoff = new Backoff(client.clock)
    this.synced = this.#firstSync.promise
    // nobody may be waiting for it
    this.synced.catch(() => undefined)
  }

  /** Begins; calling it again does nothing. */
  start(): this {
    this.#running ??= this.#run()
    return this
  }

  /** Resolves when nothing of it runs any more. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#firstSync.reject(this.#stopping.signal.reason)
    await this.#running
  }

  /** @param key `name`, or `namespace/name` */
  get(key: string): T | undefined {
    return this.#objects.get(key)
  }

  list(): readonly T[] {
    return [...this.#objects.values()]
  }

  health(): InformerHealth {
    return {
      synced: this.#isSynced,
      objects: this.#objects.size,
      lastContact: this.#lastContact,
      staleMs: this.#brokenSince === undefined ? 0 : Math.max(1, this.#client.clock.steady() - this.#brokenSince),
      resourceVersion: this.#resourceVersion,
      relists: this.#relists,
      watches: this.#watches,
      failures: this.#failures,
      lastFailure: this.#lastFailure,
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    this.#brokenSince = this.#client.clock.steady()
    while (!signal.aborted) {
      const begun = this.#client.clock.steady()
      try {
        if (this.#resourceVersion === undefined && !this.#streaming) await this.#list()
        await this.#watch()
        // a watch that the server ends at once is no success: without a pause we would hammer it
        if (this.#client.clock.steady() - begun >= 1000) this.#backoff.reset()
        else await this.#pause(undefined)
      } catch (error) {
        if (signal.aborted) break
        await this.#recover(error)
      }
    }
  }

  async #recover(error: unknown): Promise<void> {
    if (this.#streaming && this.#resourceVersion === undefined && hasCode(error, 'kube.invalid')) {
      // "sendInitialEvents is forbidden …": an API server or etcd that does not stream; it will not learn it
      this.#streaming = false
      return
    }
    // our place is forgotten, or a line was lost: only a full look makes the copy right again
    if (hasCode(error, 'kube.expired') || hasCode(error, 'kube.protocol')) this.#resourceVersion = undefined
    this.#failures++
    this.#lastFailure = error
    this.#brokenSince ??= this.#client.clock.steady()
    await this.#pause(error)
  }

  async #pause(error: unknown): Promise<void> {
    const ms = this.#backoff.next()
    if (error !== undefined) this.#tell(error, ms)
    await this.#client.clock.sleep(ms, this.#stopping.signal).catch(() => undefined)
  }

  async #list(): Promise<void> {
    const { items, resourceVersion } = await this.#client.listAll(this.resource, {
      ...this.#selection(),
      signal: this.#stopping.signal,
    })
    this.#contact()
    this.#replace(new Map(items.map((item) => [keyOf(item), this.#kept(item)])), resourceVersion)
  }

  async #watch(): Promise<void> {
    // while it is a stream of what exists, objects are gathered beside the copy and replace it in one step
    let gathered = this.#resourceVersion === undefined ? new Map<string, T>() : undefined
    this.#watches++
    const events = watch(this.#client, this.resource, {
      ...this.#selection(),
      resourceVersion: this.#resourceVersion,
      sendInitialEvents: gathered !== undefined,
      signal: this.#stopping.signal,
      onBytes: () => {
        this.#contact()
        if (gathered === undefined) this.#brokenSince = undefined
      },
    })
    for await (const event of events) {
      if (gathered === undefined) this.#follow(event)
      else if (event.type === 'BOOKMARK') {
        if (event.initialEnd) {
          this.#replace(gathered, event.resourceVersion)
          gathered = undefined
          this.#brokenSince = undefined
        }
      } else if (event.type === 'DELETED') gathered.delete(keyOf(event.object))
      else gathered.set(keyOf(event.object), this.#kept(event.object))
    }
  }

  #follow(event: WatchEvent<T>): void {
    if (event.type === 'BOOKMARK') {
      this.#resourceVersion = event.resourceVersion
      return
    }
    const key = keyOf(event.object)
    this.#resourceVersion = event.object.metadata.resourceVersion ?? this.#resourceVersion
    if (event.type === 'DELETED') this.#remove(key, event.object)
    else this.#set(key, this.#kept(event.object))
    this.#backoff.reset()
  }

  #replace(now: ReadonlyMap<string, T>, resourceVersion: string): void {
    this.#relists++
    this.#resourceVersion = resourceVersion
    for (const [key, before] of this.#objects) if (!now.has(key)) this.#remove(key, before)
    for (const [key, object] of now) this.#set(key, object)
    this.#backoff.reset()
    if (this.#isSynced) return
    this.#isSynced = true
    this.#firstSync.resolve()
    this.#guard(() => this.#options.onSynced?.())
  }

  #set(key: string, object: T): void {
    let before = this.#objects.get(key)
    if (before !== undefined && before.metadata.uid !== object.metadata.uid) {
      // deleted and made again while we did not look: two things happened, not one
      this.#remove(key, before)
      before = undefined
    }
    if (before !== undefined && before.metadata.resourceVersion === object.metadata.resourceVersion) return
    this.#objects.set(key, object)
    this.#guard(() => this.#options.onChange?.({ type: before === undefined ? 'added' : 'changed', object, before }))
  }

  #remove(key: string, object: T): void {
    const before = this.#objects.get(key)
    if (!this.#objects.delete(key)) return
    this.#guard(() => this.#options.onChange?.({ type: 'removed', object, before }))
  }

  #kept(object: T): T {
    return (this.#options.keep ?? withoutManagedFields)(object)
  }

  #selection(): Selection {
    const { namespace, allNamespaces, labelSelector, fieldSelector } = this.#options
    return { namespace, labelSelector, fieldSelector, ...(allNamespaces === undefined ? {} : { allNamespaces }) }
  }

  #contact(): void {
    this.#lastContact = this.#client.clock.now()
  }

  #guard(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#tell(error, 0)
    }
  }

  #tell(error: unknown, retryInMs: number): void {
    try {
      this.#options.onFailure?.(error, retryInMs)
    } catch {
      // nobody is left to tell
    }
  }
}

function withoutManagedFields<T extends KubeObject>(object: T): T {
  if (!('managedFields' in object.metadata)) return object
  const { managedFields: _, ...metadata } = object.metadata as T['metadata'] & { managedFields: unknown }
  return { ...object, metadata }
}
