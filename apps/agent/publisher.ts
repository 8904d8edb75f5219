import {
  announceNode,
  CILIUM_NODES,
  type CiliumNode,
  type OwnAnnouncement,
  readCiliumNode,
} from '#core/api/cilium-node.ts'
import { ANNOTATION } from '#core/api/names.ts'
import type { KubeClient } from '#io/kube/client.ts'

/** Who owns the fields that we apply. */
const FIELD_MANAGER = 'cilium-agent'

/** False with `ipam: cluster-pool`: the operator says which pod CIDRs this node has, and nobody else may. */
export interface OwnsCidrs {
  readonly podCidrs: boolean
}

/** The cluster, as far as this node writes to it: its own CiliumNode. */
export interface Registry {
  /** The whole of what this node says; what it said before and says no more goes. Resolves to the object's version by then. */
  announce(own: OwnAnnouncement, owns: OwnsCidrs): Promise<string | undefined>
  /** Sets or (undefined) removes annotations that this node shares with others. */
  annotate(name: string, annotations: Readonly<Record<string, string | undefined>>): Promise<void>
}

export class KubeRegistry implements Registry {
  readonly #client: KubeClient

  constructor(client: KubeClient) {
    this.#client = client
  }

  async announce(own: OwnAnnouncement, { podCidrs }: OwnsCidrs): Promise<string | undefined> {
    const { ipam, ...spec } = announceNode(own).spec
    const object: CiliumNode = { ...announceNode(own), spec: podCidrs ? { ...spec, ipam } : spec }
    // forced: nobody but this agent may say these fields (a ValidatingAdmissionPolicy holds it for agents)
    const options = { fieldManager: FIELD_MANAGER, force: true }
    return (await this.#client.apply(CILIUM_NODES, object, options)).metadata.resourceVersion
  }

  async annotate(name: string, annotations: Readonly<Record<string, string | undefined>>): Promise<void> {
    const values = Object.fromEntries(Object.entries(annotations).map(([key, value]) => [key, value ?? null]))
    await this.#client.patch(CILIUM_NODES, name, { metadata: { annotations: values } })
  }
}

/** True when `actual` already says what `own` would: then nothing is written. */
export function saysAll(actual: CiliumNode | undefined, own: OwnAnnouncement, owns: OwnsCidrs): boolean {
  if (actual === undefined) return false
  const said = readCiliumNode(actual)
  const annotations = announceNode(own).metadata.annotations ?? {}
  return (
    said.nodeIps.join() === own.nodeIps.join() &&
    said.internalIps.join() === own.internalIps.join() &&
    (!owns.podCidrs || said.podCidrs.join() === own.podCidrs.join()) &&
    said.bootId === own.bootId &&
    said.keyId === own.keyId &&
    said.annotations[ANNOTATION.publicKey] === own.publicKey &&
    said.annotations[ANNOTATION.ipsecKeys] === annotations[ANNOTATION.ipsecKeys] &&
    said.annotations[ANNOTATION.ipsecRead] === annotations[ANNOTATION.ipsecRead] &&
    said.annotations[ANNOTATION.mode] === annotations[ANNOTATION.mode] &&
    Object.entries(annotations).every(([name, value]) => said.annotations[name] === value)
  )
}
