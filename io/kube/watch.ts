import type { KubeObject, Resource } from '#core/api/object.ts'
import type { KubeClient, Selection } from './client.ts'
import { kubeFault, networkFault, type Status, statusFault } from './errors.ts'
import { jsonLines } from './json-lines.ts'

export type WatchEvent<T> =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: T }
  /** Nothing changed up to this resourceVersion. `initialEnd`: all that existed at the start has been sent. */
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string; readonly initialEnd: boolean }

export interface WatchOptions extends Selection {
  /** Only what comes after it. */
  readonly resourceVersion?: string | undefined
  /** Let the server send all that exists first, as ADDED, ended by a bookmark (Kubernetes 1.32 with etcd 3.5 or newer). */
  readonly sendInitialEvents?: boolean
  /** The server ends the watch after this time; standard: 290 s and some jitter. */
  readonly timeoutSeconds?: number
  /** Called for whatever arrives: the connection lives. */
  readonly onBytes?: () => void
}

const INITIAL_END = 'k8s.io/initial-events-end'
/** Bookmarks come about once a minute: two and a half of silence is a dead connection that TCP has not noticed yet. */
const IDLE_MS = 150_000

/**
 * One watch, until the server ends it (the iterator returns) or it fails (throws; `kube.expired` when the
 * resourceVersion is too old, `kube.protocol` when a line was garbled).
 */
export async function* watch<T extends KubeObject>(
  client: KubeClient,
  resource: Resource<T>,
  options: WatchOptions = {},
): AsyncGenerator<WatchEvent<T>, void, undefined> {
  const action = `watch ${resource.plural}`
  const response = await client.open({
    method: 'GET',
    path: client.collectionPath(resource, options),
    action,
    signal: options.signal,
    query: {
      watch: true,
      allowWatchBookmarks: true,
      resourceVersion: options.resourceVersion,
      labelSelector: options.labelSelector,
      fieldSelector: options.fieldSelector,
      timeoutSeconds: options.timeoutSeconds ?? 290 + Math.floor(client.clock.random() * 300),
      ...(options.sendInitialEvents === true ? { sendInitialEvents: true, resourceVersionMatch: 'NotOlderThan' } : {}),
    },
  })
  const idle = setTimeout(() => {
    response.destroy(kubeFault('kube.timeout', `${action}: nothing came for ${IDLE_MS / 1000} s`))
  }, IDLE_MS)
  const heard = () => {
    idle.refresh()
    options.onBytes?.()
  }
  try {
    heard()
    for await (const line of jsonLines(tapped(response, heard))) yield readEvent<T>(action, line)
  } catch (error) {
    if (options.signal?.aborted === true) throw options.signal.reason
    throw networkFault(action, client.server, error)
  } finally {
    clearTimeout(idle)
    response.destroy()
  }
}

async function* tapped(
  chunks: AsyncIterable<Uint8Array>,
  heard: () => void,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const chunk of chunks) {
    heard()
    yield chunk
  }
}

/** @throws Fault: what an ERROR event says, or `kube.protocol` for anything that is no event */
export function readEvent<T extends KubeObject>(action: string, line: unknown): WatchEvent<T> {
  if (typeof line === 'object' && line !== null && 'type' in line && 'object' in line) {
    const { type, object } = line
    if (type === 'ERROR') {
      const status = object as Status
      throw statusFault(action, status.code ?? 500, status)
    }
    if (hasMetadata(object)) {
      if (type === 'ADDED' || type === 'MODIFIED' || type === 'DELETED') return { type, object: object as T }
      if (type === 'BOOKMARK') {
        return {
          type,
          resourceVersion: object.metadata.resourceVersion ?? '',
          initialEnd: object.metadata.annotations?.[INITIAL_END] === 'true',
        }
      }
    }
  }
  throw kubeFault('kube.protocol', `${action}: the server sent something that is no event`)
}

function hasMetadata(object: unknown): object is KubeObject {
  return (
    typeof object === 'object' &&
    object !== null &&
    'metadata' in object &&
    typeof object.metadata === 'object' &&
    object.metadata !== null
  )
}
