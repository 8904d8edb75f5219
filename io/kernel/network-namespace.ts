import { Fault } from '#core/fault/fault.ts'
import { close, newNetworkNamespace, openRead, setNetworkNamespace } from '#io/sys/libc.ts'
import { asFault } from './netlink-socket.ts'

/** The calling thread's own, since a thread may be in another than the process's first. */
const OWN = '/proc/thread-self/ns/net'

/**
 * Runs `inside` with the calling thread in the network namespace at `path` (e.g. `/var/run/netns/x`), synchronously: nothing
 * else of this process runs meanwhile, and no thread is made. Sockets that it opens stay in that namespace for ever.
 *
 * If the way back fails, the process must not go on in a stranger's namespace: it ends. (It does not fail: the
 * descriptor of the own namespace is open all the time.)
 *
 * @throws Fault `kernel.netns.missing` when the path is none, `kernel.eperm` without CAP_SYS_ADMIN
 */
export function inNetworkNamespace<T>(path: string, inside: () => T): T {
  const target = openNamespace(path)
  try {
    return inNamespaceOf(target, path, inside)
  } finally {
    close(target)
  }
}

/** Like {@link inNetworkNamespace}, with an open descriptor. */
export function inNamespaceOf<T>(target: number, path: string, inside: () => T): T {
  return elsewhere(`enter the network namespace ${path}`, () => setNetworkNamespace(target), inside)
}

/** In a namespace of its own that is gone afterwards, unless a socket that was opened there stays open. */
export function inScratchNamespace<T>(inside: () => T): T {
  return elsewhere('make a network namespace', newNetworkNamespace, inside)
}

function elsewhere<T>(what: string, enter: () => void, inside: () => T): T {
  const own = asFault('open the own network namespace', () => openRead(OWN))
  try {
    asFault(what, enter)
    try {
      const result = inside()
      if (result instanceof Promise) throw new TypeError('a namespace is entered for synchronous work only')
      return result
    } finally {
      comeBack(own)
    }
  } finally {
    close(own)
  }
}

/** An open descriptor of the namespace at `path`; close it with `io/sys`. */
export function openNamespace(path: string): number {
  try {
    return asFault(`open the network namespace ${path}`, () => openRead(path))
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'kernel.enoent') throw error
    throw new Fault('kernel.netns.missing', `there is no network namespace ${path}`, { field: path, cause: error })
  }
}

function comeBack(own: number): void {
  try {
    setNetworkNamespace(own)
  } catch (error) {
    console.error('cannot come back from a foreign network namespace, so this process ends', error)
    process.abort()
  }
}
