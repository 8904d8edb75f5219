import { CILIUM_NODES } from '#core/api/cilium-node.ts'
import { ANNOTATION } from '#core/api/names.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { hasCode } from '#io/kube/errors.ts'

/**
 * An uninstall that was broken off leaves its request: agents would go on with it, and those that are done with it would
 * stay as they are. Agents that see it go program their nodes again.
 */
export async function takeCleanupBack(client: KubeClient, signal: AbortSignal): Promise<void> {
  const { items } = await client.listAll(CILIUM_NODES, { signal }).catch((error: unknown) => {
    if (hasCode(error, 'kube.not-found')) return { items: [] }
    throw error
  })
  for (const node of items) {
    if (node.metadata.annotations?.[ANNOTATION.cleanup] === undefined) continue
    const patch = { metadata: { annotations: { [ANNOTATION.cleanup]: null } } }
    await client.patch(CILIUM_NODES, node.metadata.name, patch, { signal })
  }
}
