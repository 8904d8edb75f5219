import { FAMILIES, type Family, type Ip } from '#core/ip/address.ts'
import { type Cidr, containsCidr } from '#core/ip/cidr.ts'
import { CLEAR, type Level } from '#core/transition/level.ts'
import { type PublicKey, parsePublicKey } from '#core/wireguard/key.ts'
import { inAny } from './own-node.ts'
import { nodeObject, type Problem } from './problem.ts'
import { type Peer, type PerFamily, type PlanConfig, uses } from './snapshot.ts'

/** What one peer's own words are worth, before they are compared with what others say. */
export interface PeerFacts {
  readonly peer: Peer
  /** Undefined when there is no usable key, or the mode is another one. */
  readonly key: PublicKey | undefined
  /** Under it, together with this node's, keys are derived. Undefined when there is none, or the mode is another one. */
  readonly bootId: string | undefined
  /** It says something of its keys, right or wrong. */
  readonly announcesKey: boolean
  readonly level: Level
  readonly nodeIps: PerFamily<Ip>
  readonly internalIps: PerFamily<Ip>
  readonly podCidrs: readonly Cidr[]
  readonly optedOut: boolean
  readonly problems: readonly Problem[]
}

const BOOT_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

const known = new WeakMap<PlanConfig, WeakMap<Peer, PeerFacts>>()

/** Remembered by the identity of both. */
export function factsOf(config: PlanConfig, peer: Peer): PeerFacts {
  let ofConfig = known.get(config)
  if (ofConfig === undefined) {
    ofConfig = new WeakMap()
    known.set(config, ofConfig)
  }
  let facts = ofConfig.get(peer)
  if (facts === undefined) {
    facts = judge(config, peer)
    ofConfig.set(peer, facts)
  }
  return facts
}

function judge(config: PlanConfig, peer: Peer): PeerFacts {
  const problems: Problem[] = []
  const { name } = peer
  const tell = (code: string, message: string, remedy: string) =>
    problems.push({ code, object: nodeObject(name), message, remedy })

  const [wireguard, ipsec] = [uses(config, 'wireguard'), uses(config, 'ipsec')]
  const announcesKey = (ipsec && peer.ipsec !== undefined) || (wireguard && peer.publicKeyText !== undefined)
  // that of no node is no claim either: it would cut off the node whose key was copied
  const text = wireguard && peer.granted !== undefined ? peer.publicKeyText : undefined
  const key = text === undefined ? undefined : parsePublicKey(text)
  if (text !== undefined && key === undefined) {
    tell(
      'peer.key.invalid',
      `node ${name} announces a public key that is not the base64 of 32 bytes, is all zero, or has small order (no secret comes of it)`,
      `Restart the agent of ${name}; it announces its own key again`,
    )
  }
  const { granted } = peer
  const bootId = ipsec && granted !== undefined && peer.ipsec !== undefined ? peer.bootId : undefined
  const validBootId = bootId !== undefined && BOOT_ID.test(bootId)
  if (bootId !== undefined && !validBootId) {
    tell(
      'peer.boot-id.invalid',
      `the boot id of node ${name} is no UUID, so no keys can be derived for it`,
      `Restart the agent of ${name}; it publishes the right one`,
    )
  }
  if (granted === undefined) {
    tell(
      'peer.node.missing',
      `there is no Node ${name}, so neither the addresses nor the pod CIDRs of its CiliumNode are used`,
      `Delete the CiliumNode when node ${name} is gone; else see that its kubelet registers it`,
    )
  }
  const podCidrs = peer.podCidrs.filter((cidr) => {
    if (granted === undefined) return false
    if (!granted.podCidrs.some((outer) => containsCidr(outer, cidr))) {
      tell(
        'peer.pod-cidr.not-granted',
        `node ${name} claims the pod CIDR ${cidr}, which Node ${name} does not have in spec.podCIDRs; it is left out`,
        `Restart the agent of ${name}; when it claims it again, somebody else writes as that node`,
      )
      return false
    }
    const inside = config.clusterCidrs.some((outer) => containsCidr(outer, cidr))
    if (!inside) {
      tell(
        'peer.pod-cidr.outside',
        `pod CIDR ${cidr} of node ${name} is not inside the cluster CIDRs ${config.clusterCidrs.join(', ')} and is left out`,
        'Add it to the cluster CIDRs and restart the agents',
      )
    }
    return inside
  })
  // An internal IP outside the node's own pod CIDRs could be somebody else's: traffic for it would be drawn away.
  const internalIps = accepted(peer.internalIps, (ip) => {
    const inside = inAny(podCidrs, ip)
    // told by its pod CIDR where that is refused
    if (!inside && !inAny(peer.podCidrs, ip)) {
      tell(
        'peer.internal-ip.outside',
        `internal IP ${ip} of node ${name} is not inside its pod CIDRs and is left out`,
        `Restart the agent of ${name}`,
      )
    }
    return inside
  })
  const nodeIps = accepted(peer.nodeIps, (ip) => {
    if (granted === undefined) return false
    if (!granted.nodeIps.includes(ip)) {
      tell(
        'peer.ip.not-granted',
        `node ${name} claims the address ${ip}, which is no InternalIP of Node ${name}; it is left out`,
        `Restart the agent of ${name}; when it claims it again, somebody else writes as that node`,
      )
      return false
    }
    const inside = inAny(config.clusterCidrs, ip)
    if (inside) {
      tell(
        'peer.ip.in-cluster-cidr',
        `address ${ip} of node ${name} lies inside the cluster CIDRs and is left out`,
        'Use pod CIDRs that do not overlap the network of the nodes',
      )
    }
    return !inside
  })
  if (peer.nodeIps[4] === undefined && peer.nodeIps[6] === undefined) {
    tell('peer.ip.missing', `node ${name} announces no address`, `Give node ${name} an InternalIP (kubelet --node-ip)`)
  }
  const level = peer.announcement?.level ?? CLEAR
  // 0 beside a key is a node's own word for it; beside none it says nothing, and then its labels count: a control plane
  // that lost its key is to be reached, another node is not to be spoken to in clear
  const optedOut = !announcesKey ? granted?.optedOut === true : peer.encryptionKey === 0
  return {
    peer,
    key,
    bootId: validBootId ? bootId : undefined,
    announcesKey,
    level,
    nodeIps,
    internalIps,
    podCidrs,
    optedOut,
    problems,
  }
}

function accepted(ips: PerFamily<Ip>, accept: (ip: Ip) => boolean): PerFamily<Ip> {
  const result: { [family in Family]?: Ip } = {}
  for (const family of FAMILIES) {
    const ip = ips[family]
    if (ip !== undefined && accept(ip)) result[family] = ip
  }
  return result
}
