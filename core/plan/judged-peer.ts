import { FAMILIES, type Family, type Ip } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import { hasKey, type KeyRef, sameKey } from '#core/ipsec/key.ts'
import { CLOSED, type Level, RECEIVING, SENDING } from '#core/transition/level.ts'
import { type EncryptionType, sendsBy } from '#core/transition/mode.ts'
import type { PublicKey } from '#core/wireguard/key.ts'
import { conflictsOf } from './conflicts.ts'
import { factsOf, type PeerFacts } from './peer-facts.ts'
import { nodeObject, type Problem } from './problem.ts'
import {
  hostLevelOf,
  type OwnNode,
  type Peer,
  type PerFamily,
  type PlanConfig,
  peerHostLevel,
  uses,
} from './snapshot.ts'

/** What a peer gets, after its claims were compared with all others'. */
export interface JudgedPeer {
  readonly peer: Peer
  /** A WireGuard peer is made of it. */
  readonly key: PublicKey | undefined
  /** An IPsec peer is made of it. */
  readonly ipsec: JudgedIpsec | undefined
  readonly nodeIps: PerFamily<Ip>
  readonly internalIps: PerFamily<Ip>
  readonly podCidrs: readonly Cidr[]
  /** How packets for its pods leave this node. */
  readonly path: 'encrypted' | 'clear' | 'none'
  /** By which device, where the path is `encrypted`. */
  readonly via: EncryptionType
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
  /** By IPsec, what pods say to the node's own addresses takes the encrypted path, whatever `hosts` says of this node's own. */
  readonly askedByPods: boolean
  /** What its pods ask this node's own addresses comes by IPsec, and is answered so (nft-answers.ts). */
  readonly answered: boolean
  /** What no pod's packet goes to in clear, closed and by IPsec: as `guarded`, with those of opted-out nodes. */
  readonly guardedFromPods: PerFamily<Ip>
  /** Opted out itself: its pods ask this node's own addresses as themselves, and expect answers from what they asked. */
  readonly podsAskHosts: boolean
  /** What comes in clear from its own addresses is refused. */
  readonly refused: boolean
}

interface JudgedIpsec {
  readonly bootId: string
  /** Undefined: no key in common. What is sent then waits in the datapath, bounded and counted. */
  readonly send: KeyRef | undefined
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
  const own = new Set(addressesOf(self))
  const exempt = new Set([...facts.filter((fact) => fact.optedOut), self].flatMap(addressesOf))
  const problems: Problem[] = []
  const judged = facts.map((fact) => {
    problems.push(...fact.problems)
    const refused = conflicts.podCidrs.get(fact.peer.name)
    const claimed = fact.peer.granted === undefined ? fact.peer.nodeIps : fact.nodeIps
    const guards = { guarded: free(claimed, exempt), guardedFromPods: free(claimed, own) }
    const peer = judge(config, self, guards, {
      ...fact,
      key: fact.key === undefined || conflicts.keys.has(fact.key) ? undefined : fact.key,
      nodeIps: free(fact.nodeIps, conflicts.nodeIps),
      podCidrs: refused === undefined ? fact.podCidrs : fact.podCidrs.filter((cidr) => !refused.has(cidr)),
      internalIps: refused === undefined ? fact.internalIps : {},
    })
    problems.push(...keyProblems(self, fact, peer))
    return reuse(peer)
  })
  problems.push(...conflicts.problems)
  const judgement = { peers: judged, problems }
  latest.set(peers, { config, self, judgement })
  return judgement
}

type Guards = Pick<JudgedPeer, 'guarded' | 'guardedFromPods'>

function judge(config: PlanConfig, self: OwnNode, guards: Guards, facts: PeerFacts): JudgedPeer {
  const { peer, level, nodeIps, internalIps, podCidrs } = facts
  const own = self.announcement.level
  const key = endpointIp(self, facts.nodeIps) === undefined ? undefined : facts.key
  const ipsec = ipsecOf(config, self, facts)
  const via = viaOf(config, peer)
  const usable = via === 'ipsec' ? ipsec !== undefined : key !== undefined && self.publicKey !== undefined
  let path: JudgedPeer['path']
  if (own === CLOSED) path = usable ? 'encrypted' : 'none'
  else if (own === SENDING && level >= RECEIVING && usable && canSend(via, ipsec, level)) path = 'encrypted'
  else path = tunnelIp(self, nodeIps) === undefined ? 'none' : 'clear'
  const { nodeEncryption } = config.encryption
  // While the peer says that it encrypts it may refuse what is in clear: also when this node was told to stop.
  const carried = path !== 'clear' && !facts.optedOut && (nodeEncryption || (peer.encryptsHosts && !self.optedOut))
  const hosts = !carried ? 'none' : self.optedOut ? 'pods' : 'all'
  // only one that has said so, and so was told as well: while `nodeEncryption` spreads, the others still send in clear
  const refused = own === CLOSED && nodeEncryption && hosts === 'all' && peer.encryptsHosts
  const podsAskHosts = nodeEncryption && facts.optedOut && !self.optedOut
  const byPods = path === 'encrypted' && via === 'ipsec' ? podsAndHosts(config, own, facts) : NEITHER
  const claims = { nodeIps, internalIps, podCidrs, ...guards }
  return { peer, key, ipsec, ...claims, path, via, hosts, podsAskHosts, ...byPods, refused }
}

const NEITHER = { askedByPods: false, answered: false }

/** As for pods' packets to pods; answers wait for the peer's word that it sends so: before it, its pods ask in clear. */
function podsAndHosts(config: PlanConfig, level: Level, facts: PeerFacts): typeof NEITHER {
  const [own, theirs] = [hostLevelOf(config, level), peerHostLevel(facts.peer, facts.level)]
  if (own === CLOSED) return { askedByPods: true, answered: true }
  return { askedByPods: own === SENDING && theirs >= RECEIVING, answered: own === SENDING && theirs >= SENDING }
}

/** Undefined where no tunnel can be made: either end without boot id or words, or without addresses to speak between. */
function ipsecOf(config: PlanConfig, self: OwnNode, facts: PeerFacts): JudgedIpsec | undefined {
  if (!uses(config, 'ipsec') || self.ipsec === undefined || facts.bootId === undefined) return undefined
  if (ipsecEnds(config, self, facts) === undefined) return undefined
  const { sendBy } = self.ipsec
  const { name } = facts.peer
  return { bootId: facts.bootId, send: Object.hasOwn(sendBy, name) ? sendBy[name] : undefined }
}

/** While the mode changes to IPsec, WireGuard for those that do not receive by it yet. */
function viaOf({ encryption: { type, second } }: PlanConfig, { mode }: Peer): EncryptionType {
  if (second === undefined) return type
  return sendsBy(type === 'ipsec' ? SENDING : RECEIVING, mode?.level)
}

/** While clear is still allowed, it is better than waiting for a key; a closed peer drops it. */
function canSend(via: EncryptionType, ipsec: JudgedIpsec | undefined, level: Level): boolean {
  return via !== 'ipsec' || ipsec?.send !== undefined || level === CLOSED
}

function keyProblems(self: OwnNode, facts: PeerFacts, judged: JudgedPeer): readonly Problem[] {
  const { name } = facts.peer
  const isClosed = self.announcement.level === CLOSED
  const tell = (code: string, message: string, remedy: string) => [{ code, object: nodeObject(name), message, remedy }]
  if (judged.path === 'none' && isClosed && !facts.announcesKey) {
    const what = judged.via === 'ipsec' ? 'IPsec key' : 'public key'
    return tell(
      'peer.key.missing',
      `node ${name} announces no ${what}, so no traffic is sent to its pods`,
      `See that the agent of ${name} runs; it announces a key by itself`,
    )
  }
  if (judged.ipsec === undefined || judged.ipsec.send !== undefined) return []
  const theirs = facts.peer.ipsec?.receives ?? []
  const ours = self.ipsec?.receive ?? []
  // it is sent to by that one as soon as both know each other (core/transition/greeting.ts)
  if (theirs.some((key) => hasKey(ours, key))) return []
  const alike = theirs.find((key) => ours.some(({ id }) => id === key.id))
  return alike === undefined
    ? tell(
        'peer.key.not-common',
        `node ${name} receives by ${ids(theirs)}, this node has ${ids(ours)}: traffic to ${name} waits for a key that both have`,
        `Compare the Secret with what ${name} read; its agent's log says when it read it last`,
      )
    : tell(
        'peer.key.different',
        `node ${name} has another text than this node under key id ${alike.id}, so nothing can be sent to it`,
        'Give every node the same text (a key id is never used for a second text: take the next id)',
      )
}

function ids(keys: readonly KeyRef[]): string {
  return keys.length === 0 ? 'no key' : `key id ${keys.map(({ id }) => id).join(' and ')}`
}

/**
 * Between which addresses ESP goes, IPv4 where both nodes have it: node IPs, or internal IPs where `cilium_vxlan` carries it.
 */
export function ipsecEnds(
  { encryption }: PlanConfig,
  self: OwnNode,
  peer: { readonly nodeIps: PerFamily<Ip>; readonly internalIps: PerFamily<Ip> },
): { readonly source: Ip; readonly destination: Ip } | undefined {
  const inside = encryption.ipsec.shape === 'esp-in-vxlan'
  if (inside && tunnelIp(self, peer.nodeIps) === undefined) return undefined
  const [own, theirs] = inside ? [self.internalIps, peer.internalIps] : [self.nodeIps, peer.nodeIps]
  for (const family of FAMILIES) {
    const [source, destination] = [own[family], theirs[family]]
    if (source !== undefined && destination !== undefined) return { source, destination }
  }
  return undefined
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
    before.ipsec?.bootId === judged.ipsec?.bootId &&
    sameKey(before.ipsec?.send, judged.ipsec?.send) &&
    (before.ipsec === undefined) === (judged.ipsec === undefined) &&
    before.path === judged.path &&
    before.via === judged.via &&
    before.hosts === judged.hosts &&
    before.podsAskHosts === judged.podsAskHosts &&
    before.askedByPods === judged.askedByPods &&
    before.answered === judged.answered &&
    before.refused === judged.refused &&
    same(before.nodeIps, judged.nodeIps) &&
    same(before.guarded, judged.guarded) &&
    same(before.guardedFromPods, judged.guardedFromPods) &&
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
