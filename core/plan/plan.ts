import type { IpsecDevice, IpsecPeer, WireguardDevice, WireguardPeer } from '#core/datapath/datapath.ts'
import type { FdbPlan, HostPlan, NeighbourPlan, NftTablePlan, RoutePlan } from '#core/host/host-plan.ts'
import { FAMILIES } from '#core/ip/address.ts'
import { type OwnWords, ownWords } from './announce.ts'
import { type JudgedPeer, judgePeers } from './judged-peer.ts'
import { addresses, links, podLink } from './links.ts'
import { ipsecMtu, wireguardMtu } from './mtu.ts'
import { IPSEC_DEVICE, WIREGUARD_DEVICE } from './names.ts'
import { podTable } from './nft-pods.ts'
import { steeringTable } from './nft-steering.ts'
import { hasDevice, ownProblems, refusals } from './own-node.ts'
import { objectsOf } from './peer-objects.ts'
import type { Problem } from './problem.ts'
import { blackholes, podRoutes, steeringRules } from './routes.ts'
import { type LocalEndpoint, type OwnNode, type Peer, type PlanConfig, type Snapshot } from './snapshot.ts'
import { podSysctls, sysctls } from './sysctls.ts'

/** The device without its private key, which never enters a plan. */
type WireguardPlan = Omit<WireguardDevice, 'privateKey'>

/** The device without the keys that its peers refer to, which never enter a plan. */
export type IpsecPlan = Omit<IpsecDevice, 'keys'>

export type Plan =
  | {
      readonly usable: true
      readonly host: HostPlan
      /** Undefined: the device is to be removed, after `host` is in force. */
      readonly wireguard: WireguardPlan | undefined
      /** The same. Both only while the mode changes. */
      readonly ipsec: IpsecPlan | undefined
      readonly announce: OwnWords
      readonly problems: readonly Problem[]
    }
  /** Nothing can be decided: whatever is there stays, closed or open as it was. */
  | { readonly usable: false; readonly problems: readonly Problem[] }

/** What this node should have. A function of its argument alone; what is remembered only saves work. */
export function plan(snapshot: Snapshot): Plan {
  const refused = refusals(snapshot)
  if (refused.length > 0) return { usable: false, problems: refused }
  const ofPeers = peersPart(snapshot)
  const ofPods = snapshot.endpoints.map((endpoint) => podPart(snapshot, endpoint))
  const host: HostPlan = {
    links: [...links(snapshot), ...ofPods.map((pod) => pod.link)],
    addresses: addresses(snapshot),
    routes: [...blackholes(snapshot), ...ofPods.flatMap((pod) => pod.routes), ...ofPeers.routes],
    rules: steeringRules(snapshot),
    neighbours: [...ofPods.flatMap((pod) => pod.neighbours), ...ofPeers.neighbours],
    fdb: ofPeers.fdb,
    tables: [ofPeers.table, podTable(snapshot.endpoints)],
    sysctls: [...sysctls(snapshot), ...ofPods.flatMap((pod) => pod.sysctls)],
  }
  const problems = [...ownProblems(snapshot), ...ofPeers.problems]
  return {
    usable: true,
    host,
    wireguard: wireguardPlan(snapshot, ofPeers.wireguard),
    ipsec: ipsecPlan(snapshot, ofPeers.ipsec),
    announce: ownWords(snapshot),
    problems,
  }
}

function wireguardPlan(snapshot: Snapshot, peers: readonly WireguardPeer[]): WireguardPlan | undefined {
  const { encryption, mark } = snapshot.config
  if (!hasDevice(snapshot, 'wireguard')) return undefined
  const mtu = wireguardMtu(snapshot)
  return { name: WIREGUARD_DEVICE, listenPort: encryption.listenPort, mark: mark.bits, mtu, peers }
}

function ipsecPlan(snapshot: Snapshot, peers: readonly IpsecPeer[]): IpsecPlan | undefined {
  const { config, self } = snapshot
  if (self.ipsec === undefined || !hasDevice(snapshot, 'ipsec')) return undefined
  return {
    name: IPSEC_DEVICE,
    mtu: ipsecMtu(snapshot),
    mark: config.mark.bits,
    udpPort: config.encryption.ipsec.port,
    bootId: self.ipsec.bootId,
    peers,
  }
}

interface PeersPart {
  readonly routes: readonly RoutePlan[]
  readonly neighbours: readonly NeighbourPlan[]
  readonly fdb: readonly FdbPlan[]
  readonly wireguard: readonly WireguardPeer[]
  readonly ipsec: readonly IpsecPeer[]
  readonly table: NftTablePlan
  readonly problems: readonly Problem[]
}

const lastParts = new WeakMap<readonly Peer[], { config: PlanConfig; self: OwnNode; part: PeersPart }>()

/** Remembered as a whole: an event about a pod does not touch it. */
function peersPart(snapshot: Snapshot): PeersPart {
  const { config, self, peers } = snapshot
  const last = lastParts.get(peers)
  if (last?.config === config && last.self === self) return last.part
  const judgement = judgePeers(config, self, peers)
  const routes: RoutePlan[] = []
  const neighbours: NeighbourPlan[] = []
  const fdb: FdbPlan[] = []
  const wireguard: WireguardPeer[] = []
  const ipsec: IpsecPeer[] = []
  for (const judged of inOrder(judgement.peers)) {
    const objects = objectsOf(snapshot, judged)
    routes.push(...objects.routes)
    neighbours.push(...objects.neighbours)
    fdb.push(...objects.fdb)
    if (objects.wireguard !== undefined) wireguard.push(objects.wireguard)
    if (objects.ipsec !== undefined) ipsec.push(objects.ipsec)
  }
  const part = {
    routes,
    neighbours,
    fdb,
    wireguard,
    ipsec,
    table: steeringTable(snapshot, inOrder(judgement.peers)),
    problems: judgement.problems,
  }
  lastParts.set(peers, { config, self, part })
  return part
}

/** By name, so that the same cluster gives the same text whatever order the watch told it in. */
function inOrder(peers: readonly JudgedPeer[]): readonly JudgedPeer[] {
  return [...peers].sort((a, b) => (a.peer.name < b.peer.name ? -1 : 1))
}

function podPart(snapshot: Snapshot, endpoint: LocalEndpoint) {
  const { device, ips, mac } = endpoint
  return {
    link: podLink(snapshot, endpoint),
    routes: podRoutes(snapshot, endpoint),
    neighbours: FAMILIES.flatMap((family) => (ips[family] === undefined ? [] : [{ device, ip: ips[family], mac }])),
    sysctls: podSysctls(endpoint),
  }
}
