import type { IncomingMessage } from 'node:http'
import { apiVersionOf, type KubeObject, keyOf, type Resource } from '#core/api/object.ts'
import { type Clock, SYSTEM_CLOCK } from './clock.ts'
import { type ConnectOptions, findConnection } from './connection.ts'
import { hasCode, kubeFault } from './errors.ts'
import { readBody, Transport } from './transport.ts'

interface Call {
  readonly signal?: AbortSignal | undefined
  /** Until the answer begins; standard 30 s. */
  readonly timeoutMs?: number
}

export interface Scope extends Call {
  /** For what lies in namespaces; standard: that of the kubeconfig's context. */
  readonly namespace?: string | undefined
}

export interface Selection extends Scope {
  /** Of every namespace. */
  readonly allNamespaces?: boolean
  readonly labelSelector?: string | undefined
  readonly fieldSelector?: string | undefined
}

export interface Page<T> {
  readonly items: readonly T[]
  readonly resourceVersion: string
  /** Absent on the last page. */
  readonly continue: string | undefined
}

export interface RequestOptions extends Call {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** e.g. `/apis/apps/v1/deployments` */
  readonly path: string
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>
  readonly body?: unknown
  readonly contentType?: string
  /** What is tried on which object, for errors. */
  readonly action?: string
}

export type PatchKind = 'merge' | 'strategic' | 'json'

const PATCH_TYPES = {
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  json: 'application/json-patch+json',
} as const

const PAGE = 500

/** One API server, as one identity. Everything rejects with a Fault `kube.*` that names the object. */
export class KubeClient {
  readonly transport: Transport
  readonly clock: Clock
  /** The namespace of the context. */
  readonly namespace: string

  constructor(transport: Transport, clock: Clock = SYSTEM_CLOCK) {
    this.transport = transport
    this.clock = clock
    this.namespace = transport.connection.namespace
  }

  /** Finds the cluster as kubectl does, then the pod's own; does not talk to it yet. */
  static async connect(options: ConnectOptions = {}): Promise<KubeClient> {
    return new KubeClient(new Transport(await findConnection(options)))
  }

  /** `https://HOST:PORT` */
  get server(): string {
    return this.transport.connection.server.href.replace(/\/$/, '')
  }

  /** Any request whose answer is JSON. */
  async request<T = unknown>(options: RequestOptions): Promise<T> {
    const response = await this.open(options)
    const text = await readBody(response)
    try {
      return JSON.parse(text) as T
    } catch {
      throw kubeFault('kube.protocol', `${options.action ?? options.path}: the answer is no JSON`, {
        remedy: `Check that ${this.server} is an API server`,
      })
    }
  }

  /** The open answer of any request. */
  async open(options: RequestOptions): Promise<IncomingMessage> {
    const query = new URLSearchParams()
    for (const [name, value] of Object.entries(options.query ?? {})) {
      if (value !== undefined && value !== '') query.set(name, String(value))
    }
    return await this.transport.send({
      method: options.method,
      path: query.size === 0 ? options.path : `${options.path}?${query.toString()}`,
      action: options.action ?? `${options.method} ${options.path}`,
      ...(options.body === undefined
        ? {}
        : {
            body: JSON.stringify(options.body),
            headers: { 'Content-Type': options.contentType ?? 'application/json' },
          }),
      ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
      signal: options.signal,
    })
  }

  async get<T extends KubeObject>(resource: Resource<T>, name: string, scope: Scope = {}): Promise<T> {
    return await this.request<T>({
      ...callOf(scope),
      method: 'GET',
      path: this.objectPath(resource, name, scope),
      action: `get ${label(resource, name)}`,
    })
  }

  /** Like get, but undefined when there is none. */
  async find<T extends KubeObject>(resource: Resource<T>, name: string, scope: Scope = {}): Promise<T | undefined> {
    try {
      return await this.get(resource, name, scope)
    } catch (error) {
      if (hasCode(error, 'kube.not-found')) return undefined
      throw error
    }
  }

  async list<T extends KubeObject>(
    resource: Resource<T>,
    options: Selection & {
      readonly limit?: number
      readonly continue?: string | undefined
      readonly resourceVersion?: string
    } = {},
  ): Promise<Page<T>> {
    const answer = await this.request<{
      readonly items?: readonly T[] | null
      readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string }
    }>({
      ...callOf(options),
      method: 'GET',
      path: this.collectionPath(resource, options),
      action: `list ${resource.plural}`,
      query: {
        labelSelector: options.labelSelector,
        fieldSelector: options.fieldSelector,
        limit: options.limit,
        continue: options.continue,
        resourceVersion: options.resourceVersion,
      },
    })
    return {
      items: answer.items ?? [],
      resourceVersion: answer.metadata?.resourceVersion ?? '',
      continue: answer.metadata?.continue || undefined,
    }
  }

  /** All of them, fetched in pages. When the server forgets the list meanwhile (410), it begins once more. */
  async listAll<T extends KubeObject>(resource: Resource<T>, options: Selection = {}): Promise<Page<T>> {
    for (let restarts = 0; ; restarts++) {
      const items: T[] = []
      let token: string | undefined
      try {
        for (;;) {
          const page: Page<T> = await this.list(resource, { ...options, limit: PAGE, continue: token })
          items.push(...page.items)
          token = page.continue
          if (token === undefined) return { items, resourceVersion: page.resourceVersion, continue: undefined }
        }
      } catch (error) {
        if (!hasCode(error, 'kube.expired') || restarts >= 3) throw error
      }
    }
  }

  async create<T extends KubeObject>(resource: Resource<T>, object: T, scope: Scope = {}): Promise<T> {
    return await this.request<T>({
      ...callOf(scope),
      method: 'POST',
      path: this.collectionPath(resource, { namespace: object.metadata.namespace, ...definedScope(scope) }),
      action: `create ${label(resource, keyOf(object))}`,
      body: typed(resource, object),
    })
  }

  /** Replaces the whole object; with a resourceVersion in it, only that version (else `kube.conflict`). */
  async replace<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options: Scope & { readonly subresource?: string } = {},
  ): Promise<T> {
    const scope = { namespace: object.metadata.namespace, ...definedScope(options) }
    return await this.request<T>({
      ...callOf(options),
      method: 'PUT',
      path: this.objectPath(resource, object.metadata.name, scope, options.subresource),
      action: `replace ${label(resource, keyOf(object))}`,
      body: typed(resource, object),
    })
  }

  /** `strategic` only for built-in kinds. A null in a merge patch removes the field. */
  async patch<T extends KubeObject>(
    resource: Resource<T>,
    name: string,
    patch: unknown,
    options: Scope & { readonly kind?: PatchKind; readonly subresource?: string } = {},
  ): Promise<T> {
    return await this.request<T>({
      ...callOf(options),
      method: 'PATCH',
      path: this.objectPath(resource, name, options, options.subresource),
      action: `patch ${label(resource, name)}`,
      contentType: PATCH_TYPES[options.kind ?? 'merge'],
      body: patch,
    })
  }

  /**
   * Server-side apply: creates the object or makes our fields of it what `object` says; fields that we applied before
   * and that are gone from `object` are removed. `force` takes fields over from other managers.
   */
  async apply<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options: Scope & { readonly fieldManager: string; readonly force?: boolean; readonly subresource?: string },
  ): Promise<T> {
    const scope = { namespace: object.metadata.namespace, ...definedScope(options) }
    return await this.request<T>({
      ...callOf(options),
      method: 'PATCH',
      path: this.objectPath(resource, object.metadata.name, scope, options.subresource),
      query: { fieldManager: options.fieldManager, force: options.force },
      action: `apply ${label(resource, keyOf(object))}`,
      contentType: 'application/apply-patch+yaml',
      body: typed(resource, object),
    })
  }

  /** True when it was there. `preconditions`: only if it is still that very object. */
  async delete<T extends KubeObject>(
    resource: Resource<T>,
    name: string,
    options: Scope & {
      readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string }
      readonly propagation?: 'Foreground' | 'Background' | 'Orphan'
      readonly gracePeriodSeconds?: number
    } = {},
  ): Promise<boolean> {
    try {
      await this.request({
        ...callOf(options),
        method: 'DELETE',
        path: this.objectPath(resource, name, options),
        action: `delete ${label(resource, name)}`,
        body: {
          apiVersion: 'v1',
          kind: 'DeleteOptions',
          preconditions: options.preconditions,
          propagationPolicy: options.propagation,
          gracePeriodSeconds: options.gracePeriodSeconds,
        },
      })
      return true
    } catch (error) {
      if (hasCode(error, 'kube.not-found')) return false
      throw error
    }
  }

  /** Ends idle connections; requests under way go on. */
  close(): void {
    this.transport.close()
  }

  collectionPath(resource: Resource<KubeObject>, options: Selection = {}): string {
    const base = `/${resource.group === '' ? 'api' : 'apis'}/${apiVersionOf(resource)}`
    const everywhere = !resource.namespaced || options.allNamespaces === true
    const namespace = everywhere ? '' : `/namespaces/${segment(options.namespace ?? this.namespace)}`
    return `${base}${namespace}/${resource.plural}`
  }

  objectPath(resource: Resource<KubeObject>, name: string, scope: Scope = {}, subresource?: string): string {
    const path = `${this.collectionPath(resource, { namespace: scope.namespace })}/${segment(name)}`
    return subresource === undefined ? path : `${path}/${subresource}`
  }
}

/** An empty or dotted name would address the whole collection, and `delete` would empty it. */
function segment(name: string): string {
  if (name === '' || name === '.' || name === '..') throw new TypeError(`"${name}" is no name of an object`)
  return encodeURIComponent(name)
}

function label(resource: Resource<KubeObject>, name: string): string {
  return `${resource.kind} ${name}`
}

function callOf(call: Call): Call {
  return { signal: call.signal, ...(call.timeoutMs === undefined ? {} : { timeoutMs: call.timeoutMs }) }
}

function definedScope(scope: Scope): Scope {
  return scope.namespace === undefined ? {} : { namespace: scope.namespace }
}

function typed<T extends KubeObject>(resource: Resource<T>, object: T): T {
  return { ...object, apiVersion: apiVersionOf(resource), kind: resource.kind }
}
