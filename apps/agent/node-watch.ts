import { NODES, type Node, type NodeFacts, readNode } from '#core/api/node.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { Informer } from '#io/kube/informer.ts'

/**
 * All Nodes of the cluster: this node's own, and what the others may claim (core/plan/snapshot.ts, `Granted`). A kubelet
 * writes its Node every few minutes; only what is read here is kept of it, and only a change of that is told.
 */
export class NodeWatch {
  readonly #informer: Informer<Node>
  readonly #facts = new Map<string, NodeFacts>()

  constructor(client: KubeClient, changed: () => void, onFailure: (error: unknown) => void) {
    this.#informer = new Informer(client, NODES, {
      keep: essence,
      onFailure,
      onSynced: changed,
      onChange: ({ type, object }) => {
        const { name } = object.metadata
        const facts = type === 'removed' ? undefined : readNode(object)
        if (same(this.#facts.get(name), facts)) return
        if (facts === undefined) this.#facts.delete(name)
        else this.#facts.set(name, facts)
        if (this.#informer.health().synced) changed()
      },
    })
  }

  start(): void {
    this.#informer.start()
  }

  async stop(): Promise<void> {
    await this.#informer.stop()
  }

  /** By name; undefined until all have been seen once. What has not changed is the same object as before. */
  get nodes(): ReadonlyMap<string, NodeFacts> | undefined {
    return this.#informer.health().synced ? this.#facts : undefined
  }
}

/** Of a Node's ten kilobytes (images, conditions, capacity) the few hundred bytes that are read. */
export function essence({ apiVersion, kind, metadata, spec, status }: Node): Node {
  const { name, uid, resourceVersion, labels } = metadata
  return {
    ...(apiVersion === undefined ? {} : { apiVersion }),
    ...(kind === undefined ? {} : { kind }),
    metadata: {
      name,
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
      ...(labels === undefined ? {} : { labels }),
    },
    spec: {
      ...(spec?.podCIDR === undefined ? {} : { podCIDR: spec.podCIDR }),
      ...(spec?.podCIDRs === undefined ? {} : { podCIDRs: spec.podCIDRs }),
    },
    status: status?.addresses === undefined ? {} : { addresses: status.addresses },
  }
}

function same(before: NodeFacts | undefined, now: NodeFacts | undefined): boolean {
  return JSON.stringify(before) === JSON.stringify(now)
}
