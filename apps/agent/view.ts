import type { CiliumNode } from '#core/api/cilium-node.ts'
import { readCiliumNode } from '#core/api/cilium-node.ts'
import type { AgentConfig } from '#core/api/config.ts'
import { ANNOTATION } from '#core/api/names.ts'
import type { NodeFacts } from '#core/api/node.ts'
import { type Selector, selects } from '#core/api/selector.ts'
import { familyOf, type Ip } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import type {
  Granted,
  LocalEndpoint,
  OwnIpsec,
  OwnNode,
  Peer,
  PerFamily,
  PlanConfig,
  Snapshot,
} from '#core/plan/snapshot.ts'
import type { Announcement } from '#core/transition/level.ts'
import type { PublicKey } from '#core/wireguard/key.ts'
import type { Endpoint } from './endpoints.ts'
import { type EncryptionMode, toPlanConfig } from './plan-config.ts'

/** Everything that a snapshot is made of, as it came from watches, files and the kernel. */
export interface Known {
  readonly config: AgentConfig
  readonly node: NodeFacts
  readonly ciliumNodes: readonly CiliumNode[]
  /** All Nodes, by name. */
  readonly nodes: ReadonlyMap<string, NodeFacts>
  readonly endpoints: readonly Endpoint[]
  readonly podCidrs: readonly Cidr[]
  readonly internalIps: PerFamily<Ip>
  readonly underlay: { readonly device: string; readonly mtu: number } | undefined
  readonly publicKey: PublicKey | undefined
  /** Undefined: this node has no IPsec. */
  readonly ipsec: OwnIpsec | undefined
  /** {@link ClusterView.version} */
  readonly version?: string | undefined
  /** How this node encrypts; undefined: it does not, and is not asked to. */
  readonly mode: EncryptionMode | undefined
  /** What `mode` follows from. */
  readonly stage: Announcement | undefined
  readonly announcement: Announcement
  /** This node's datapath is the kernel's. */
  readonly byKernel: boolean
}

export type KnownNodes = Pick<Known, 'config' | 'node' | 'ciliumNodes' | 'nodes'>

/** What a peer was made of. */
interface Told {
  readonly node: CiliumNode
  readonly facts: NodeFacts | undefined
  /** By which it was judged. */
  readonly config: AgentConfig
  readonly peer: Peer
}

/**
 * Builds snapshots of which everything that did not change is the same object as before (core/plan/snapshot.ts asks
 * for it: the planner then repeats no work).
 */
export class View {
  #config: PlanConfig | undefined
  #self: OwnNode | undefined
  #peers: readonly Peer[] = []
  #peersByName = new Map<string, Told>()
  readonly #endpoints = new WeakMap<Endpoint, LocalEndpoint>()

  snapshot(known: Known): Snapshot {
    this.#config = keep(this.#config, toPlanConfig(known.config, known.mode, known.byKernel))
    this.#self = keep(this.#self, ownNode(known))
    return {
      config: this.#config,
      self: this.#self,
      peers: this.peers(known),
      endpoints: known.endpoints.filter(({ ready }) => ready).map((endpoint) => this.#endpointOf(endpoint)),
    }
  }

  /** Of the other nodes alone, without a snapshot; remembered for the next one. */
  peers({ config, node: own, ciliumNodes, nodes }: KnownNodes): readonly Peer[] {
    const next = new Map<string, Told>()
    for (const node of ciliumNodes) {
      const { name } = node.metadata
      if (name === own.name || node.metadata.deletionTimestamp !== undefined) continue
      const before = this.#peersByName.get(name)
      const facts = nodes.get(name)
      const same = before?.node === node && before.facts === facts && before.config === config
      next.set(
        name,
        same
          ? before
          : {
              node,
              facts,
              config,
              peer: keep(before?.peer, peerOf(node, facts, config)),
            },
      )
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

/** A snapshot of one's own node alone, not remembered: for what has to be known before the peers' part. */
export function ownSnapshot(known: Known): Snapshot {
  return {
    config: toPlanConfig(known.config, known.mode, known.byKernel),
    self: ownNode(known),
    peers: [],
    endpoints: [],
  }
}

function ownNode(known: Known): OwnNode {
  const { config, node, podCidrs, internalIps, underlay, publicKey, ipsec, announcement, stage } = known
  return {
    name: node.name,
    nodeIps: perFamily(node.internalIps),
    internalIps,
    podCidrs,
    underlayDevice: underlay?.device,
    underlayMtu: config.mtu === 0 ? (underlay?.mtu ?? 1500) : config.mtu,
    publicKey,
    ...(ipsec === undefined ? {} : { ipsec }),
    announcement,
    ...(stage === undefined ? {} : { mode: stage }),
    optedOut: optsOut(config.optOut, node),
  }
}

/** No requirement opts nobody out. */
function optsOut(optOut: Selector, { labels }: NodeFacts): boolean {
  return optOut.length > 0 && selects(optOut, labels)
}

function peerOf(node: CiliumNode, facts: NodeFacts | undefined, config: AgentConfig): Peer {
  const said = readCiliumNode(node)
  // with cluster-pool it is the operator that writes them there, and an admission policy keeps agents from it
  const podCidrs = config.ipam === 'cluster-pool' ? said.podCidrs : facts?.podCidrs
  const granted: Granted | undefined =
    facts === undefined || podCidrs === undefined
      ? undefined
      : { podCidrs, nodeIps: facts.internalIps, optedOut: optsOut(config.optOut, facts) }
  return {
    name: said.name,
    nodeIps: perFamily(said.nodeIps),
    internalIps: perFamily(said.internalIps),
    podCidrs: said.podCidrs,
    publicKeyText: said.annotations[ANNOTATION.publicKey] ?? said.annotations[ANNOTATION.publicKeyAlias],
    ...(said.bootId === undefined ? {} : { bootId: said.bootId }),
    ...(said.ipsec === undefined ? {} : { ipsec: said.ipsec }),
    encryptionKey: said.keyId,
    announcement: said.announcement,
    ...(said.mode === undefined ? {} : { mode: said.mode }),
    encryptsHosts: said.encryptsHosts,
    ...(said.annotations[ANNOTATION.datapath] === 'kernel' ? { byKernel: true } : {}),
    granted,
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
