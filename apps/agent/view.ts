import type { CiliumNode } from '#core/api/cilium-node.ts'
import { readCiliumNode } from '#core/api/cilium-node.ts'
import type { AgentConfig } from '#core/api/config.ts'
import { ANNOTATION } from '#core/api/names.ts'
import type { NodeFacts } from '#core/api/node.ts'
import { selects } from '#core/api/selector.ts'
import { familyOf, type Ip } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import type { LocalEndpoint, OwnNode, Peer, PerFamily, PlanConfig, Snapshot } from '#core/plan/snapshot.ts'
import type { Announcement } from '#core/transition/level.ts'
import type { PublicKey } from '#core/wireguard/key.ts'
import type { Endpoint } from './endpoints.ts'
import { toPlanConfig } from './plan-config.ts'

/** Everything that a snapshot is made of, as it came from watches, files and the kernel. */
export interface Known {
  readonly config: AgentConfig
  readonly node: NodeFacts
  readonly ciliumNodes: readonly CiliumNode[]
  readonly endpoints: readonly Endpoint[]
  readonly podCidrs: readonly Cidr[]
  readonly internalIps: PerFamily<Ip>
  readonly underlay: { readonly device: string; readonly mtu: number } | undefined
  readonly publicKey: PublicKey | undefined
  readonly announcement: Announcement
}

/**
 * Builds snapshots of which everything that did not change is the same object as before (core/plan/snapshot.ts asks
 * for it: the planner then repeats no work).
 */
export class View {
  #config: PlanConfig | undefined
  #self: OwnNode | undefined
  #peers: readonly Peer[] = []
  #peersByName = new Map<string, { readonly node: CiliumNode; readonly peer: Peer }>()
  readonly #endpoints = new WeakMap<Endpoint, LocalEndpoint>()

  snapshot(known: Known): Snapshot {
    this.#config = keep(this.#config, toPlanConfig(known.config))
    this.#self = keep(this.#self, ownNode(known))
    return {
      config: this.#config,
      self: this.#self,
      peers: this.#peersOf(known),
      endpoints: known.endpoints.filter(({ ready }) => ready).map((endpoint) => this.#endpointOf(endpoint)),
    }
  }

  #peersOf({ node: own, ciliumNodes }: Known): readonly Peer[] {
    const next = new Map<string, { readonly node: CiliumNode; readonly peer: Peer }>()
    for (const node of ciliumNodes) {
      const { name } = node.metadata
      if (name === own.name || node.metadata.deletionTimestamp !== undefined) continue
      const before = this.#peersByName.get(name)
      next.set(name, before?.node === node ? before : { node, peer: keep(before?.peer, peerOf(node)) })
    }
    const peers = [...next.values()].map(({ peer }) => peer)
    const same = peers.length === this.#peers.length && peers.every((peer, i) => peer === this.#peers[i])
    this.#peersByName = next
    if (!same) this.#peers = peers
    return this.#peers
  }

  #endpointOf(endpoint: Endpoint): LocalEndpoint {
    const known = this.#endpoints.get(endpoint)
    if (known !== undefined) return known
    const { device, mac, ips } = endpoint
    const made: LocalEndpoint = { device, mac, ips: perFamily(ips.map(({ ip }) => ip)) }
    this.#endpoints.set(endpoint, made)
    return made
  }
}

function ownNode({ config, node, podCidrs, internalIps, underlay, publicKey, announcement }: Known): OwnNode {
  return {
    name: node.name,
    nodeIps: perFamily(node.internalIps),
    internalIps,
    podCidrs,
    underlayDevice: underlay?.device,
    underlayMtu: config.mtu === 0 ? (underlay?.mtu ?? 1500) : config.mtu,
    publicKey,
    announcement,
    // no requirement opts nobody out
    optedOut: config.optOut.length > 0 && selects(config.optOut, node.labels),
  }
}

function peerOf(node: CiliumNode): Peer {
  const said = readCiliumNode(node)
  return {
    name: said.name,
    nodeIps: perFamily(said.nodeIps),
    internalIps: perFamily(said.internalIps),
    podCidrs: said.podCidrs,
    publicKeyText: said.annotations[ANNOTATION.publicKey] ?? said.annotations[ANNOTATION.publicKeyAlias],
    encryptionKey: said.keyId,
    announcement: said.announcement,
    encryptsHosts: said.encryptsHosts,
  }
}

/** The first of each family counts. */
export function perFamily(ips: readonly Ip[]): PerFamily<Ip> {
  const of = (family: 4 | 6) => ips.find((ip) => familyOf(ip) === family)
  const [v4, v6] = [of(4), of(6)]
  return { ...(v4 === undefined ? {} : { 4: v4 }), ...(v6 === undefined ? {} : { 6: v6 }) }
}

/** `before` when it says the same as `now`. */
function keep<T>(before: T | undefined, now: T): T {
  return before !== undefined && JSON.stringify(before) === JSON.stringify(now) ? before : now
}
