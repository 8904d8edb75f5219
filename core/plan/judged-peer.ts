import type { Family, Ip } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import { CLOSED, RECEIVING, SENDING } from '#core/transition/level.ts'
import type { PublicKey } from '#core/wireguard/key.ts'
import { conflictsOf } from './conflicts.ts'
import { factsOf, type PeerFacts } from './peer-facts.ts'
import { nodeObject, type Problem } from './problem.ts'
import { FAMILIES, type OwnNode, type Peer, type PerFamily, type PlanConfig } from './snapshot.ts'

/** What a peer gets, after its claims were compared with all others'. */
export interface JudgedPeer {
  readonly peer: Peer
  /** A WireGuard peer is made of it. */
  readonly key: PublicKey | undefined
  readonly nodeIps: PerFamily<Ip>
  readonly internalIps: PerFamily<Ip>
  readonly podCidrs: readonly Cidr[]
  /** How packets for its pods leave this node. */
  readonly path: 'encrypted' | 'clear' | 'none'
  /**
   * Packets for the node's own addresses, from pods as well as from this node itself, take the encrypted path or none.
   * `pods`: only those from pods, since this node is opted out.
   */
  readonly hosts: 'all' | 'pods' | 'none'
  /**
   * Where `hosts` is not `none`, what nothing goes to in clear: also addresses that it may not use, because another node
   * claims them too or its Node is gone. Never one of an opted-out node, such as the API server's.
   */
  readonly guarded: PerFamily<Ip>
  /** Opted out itself: its pods ask this node's own addresses as themselves, and expect answers from what they asked. */
  readonly podsAskHosts: boolean
  /** What comes in clear from its own addresses is refused. */
  readonly refused: boolean
}

export interface Judgement {
  readonly peers: readonly JudgedPeer[]
  readonly problems: readonly Problem[]
}

const latest = new WeakMap<readonly Peer[], { config: PlanConfig; self: OwnNode; judgement: Judgement }>()

/** Remembered for the same three objects, so that an event about a pod does not judge the peers again. */
export function judgePeers(config: PlanConfig, self: OwnNode, peers: readonly Peer[]): Judgement {
  const last = latest.get(peers)
  if (last?.config === config && last.self === self) return last.judgement
  const facts = peers.filter((peer) => peer.name !== self.name).map((peer) => factsOf(config, peer))
  const conflicts = conflictsOf(self, facts)
  const exempt = new Set([...facts.filter((fact) => fact.optedOut), self].flatMap(addressesOf))
  const problems: Problem[] = []
  const judged = facts.map((fact) => {
    problems.push(...fact.problems)
    const refused = conflicts.podCidrs.get(fact.peer.name)
    const guarded = free(fact.peer.granted === undefined ? fact.peer.nodeIps : fact.nodeIps, exempt)
    const peer = judge(config, self, guarded, {
      ...fact,
      key: fact.key === undefined || conflicts.keys.has(fact.key) ? undefined : fact.key,
      nodeIps: free(fact.nodeIps, conflicts.nodeIps),
      podCidrs: refused === undefined ? fact.podCidrs : fact.podCidrs.filter((cidr) => !refused.has(cidr)),
      internalIps: refused === undefined ? fact.internalIps : {},
    })
    if (peer.path === 'none' && self.announcement.level === CLOSED && fact.peer.publicKeyText === undefined) {
      problems.push({
        code: 'peer.key.missing',
        object: nodeObject(fact.peer.name),
        message: `node ${fact.peer.name} announces no public key, so no traffic is sent to its pods`,
        remedy: `See that the agent of ${fact.peer.name} runs; it announces a key by itself`,
      })
    }
    return reuse(peer)
  })
  problems.push(...conflicts.problems)
  const judgement = { peers: judged, problems }
  latest.set(peers, { config, self, judgement })
  return judgement
}

function judge(config: PlanConfig, self: OwnNode, guarded: PerFamily<Ip>, facts: PeerFacts): JudgedPeer {
  const { peer, level, nodeIps, internalIps, podCidrs } = facts
  const own = self.announcement.level
  const key = endpointIp(self, facts.nodeIps) === undefined ? undefined : facts.key
  const usable = key !== undefined && self.publicKey !== undefined
  let path: JudgedPeer['path']
  if (own === CLOSED) path = usable ? 'encrypted' : 'none'
  else if (own === SENDING && level >= RECEIVING && usable) path = 'encrypted'
  else path = tunnelIp(self, nodeIps) === undefined ? 'none' : 'clear'
  const { nodeEncryption } = config.encryption
  // While the peer says that it encrypts it may refuse what is in clear: also when this node was told to stop.
  const carried = path !== 'clear' && !facts.optedOut && (nodeEncryption || (peer.encryptsHosts && !self.optedOut))
  const hosts = !carried ? 'none' : self.optedOut ? 'pods' : 'all'
  // only one that has said so, and so was told as well: while `nodeEncryption` spreads, the others still send in clear
  const refused = own === CLOSED && nodeEncryption && hosts === 'all' && peer.encryptsHosts
  const podsAskHosts = nodeEncryption && facts.optedOut && !self.optedOut
  return { peer, key, nodeIps, internalIps, podCidrs, path, hosts, guarded, podsAskHosts, refused }
}

/** Where WireGuard sends to: IPv4 where both nodes have it. */
export function endpointIp(self: OwnNode, nodeIps: PerFamily<Ip>): Ip | undefined {
  for (const family of FAMILIES) {
    if (self.nodeIps[family] !== undefined && nodeIps[family] !== undefined) return nodeIps[family]
  }
  return undefined
}

/** Where VXLAN sends to: the device has one family, the first that this node has. */
export function tunnelIp(self: OwnNode, nodeIps: PerFamily<Ip>): Ip | undefined {
  return self.nodeIps[4] === undefined ? nodeIps[6] : nodeIps[4]
}

function addressesOf({ nodeIps }: Pick<PeerFacts, 'nodeIps'>): readonly Ip[] {
  return FAMILIES.flatMap((family) => nodeIps[family] ?? [])
}

function free(ips: PerFamily<Ip>, taken: ReadonlySet<Ip>): PerFamily<Ip> {
  if (FAMILIES.every((family) => ips[family] === undefined || !taken.has(ips[family]))) return ips
  const result: { [family in Family]?: Ip } = {}
  for (const family of FAMILIES) {
    const ip = ips[family]
    if (ip !== undefined && !taken.has(ip)) result[family] = ip
  }
  return result
}

const judgedBefore = new WeakMap<Peer, JudgedPeer>()

/** The object of last time when nothing in it changed: what was made of it is remembered by it (peer-objects.ts). */
function reuse(judged: JudgedPeer): JudgedPeer {
  const before = judgedBefore.get(judged.peer)
  if (
    before !== undefined &&
    before.key === judged.key &&
    before.path === judged.path &&
    before.hosts === judged.hosts &&
    before.podsAskHosts === judged.podsAskHosts &&
    before.refused === judged.refused &&
    same(before.nodeIps, judged.nodeIps) &&
    same(before.guarded, judged.guarded) &&
    same(before.internalIps, judged.internalIps) &&
    before.podCidrs.length === judged.podCidrs.length &&
    before.podCidrs.every((cidr, index) => cidr === judged.podCidrs[index])
  ) {
    return before
  }
  judgedBefore.set(judged.peer, judged)
  return judged
}

function same(a: PerFamily<Ip>, b: PerFamily<Ip>): boolean {
  return a[4] === b[4] && a[6] === b[6]
}
