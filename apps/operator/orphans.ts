import { CILIUM_NODES, type CiliumNode } from '#core/api/cilium-node.ts'
import { NODES } from '#core/api/node.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { hasCode } from '#io/kube/errors.ts'

/** A Node that is deleted and registered anew (a kubelet restart) must find its CiliumNode again. */
const GRACE_MS = 30_000

/** CiliumNodes whose Node is gone: remembers since when, and deletes after a second look. */
export class Orphans {
  readonly #client: KubeClient
  readonly #since = new Map<string, number>()

  constructor(client: KubeClient) {
    this.#client = client
  }

  /**
   * @param nodes what the copy of the Nodes says; it must be a synced one
   * @returns the names that were deleted
   */
  async sweep(
    ciliumNodes: readonly CiliumNode[],
    nodes: ReadonlySet<string>,
    graceMs = GRACE_MS,
    signal?: AbortSignal,
  ): Promise<readonly string[]> {
    const now = this.#client.clock.steady()
    const orphans = ciliumNodes.filter((node) => !nodes.has(node.metadata.name))
    const names = new Set(orphans.map((node) => node.metadata.name))
    for (const name of this.#since.keys()) if (!names.has(name)) this.#since.delete(name)
    const deleted: string[] = []
    for (const orphan of orphans) {
      const { name } = orphan.metadata
      const since = this.#since.get(name) ?? now
      this.#since.set(name, since)
      if (now - since < graceMs) continue
      if (await this.#deleteAfterRecheck(orphan, signal)) deleted.push(name)
      this.#since.delete(name)
    }
    return deleted
  }

  /** The copy may be old: the API server itself is asked, and only the very object that we saw is deleted. */
  async #deleteAfterRecheck(orphan: CiliumNode, signal: AbortSignal | undefined): Promise<boolean> {
    const { name, uid, resourceVersion } = orphan.metadata
    if ((await this.#client.find(NODES, name, { signal })) !== undefined) return false
    const preconditions = {
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    }
    try {
      return await this.#client.delete(CILIUM_NODES, name, { preconditions, signal })
    } catch (error) {
      // somebody wrote to it since: its agent lives, look again later
      if (hasCode(error, 'kube.conflict')) return false
      throw error
    }
  }
}
