import { xfrmSentence } from './xfrm.ts'

/**
 * Every counter that a packet can end in, with what it means and what to do. Names are those of `nft list counters`
 * (core/plan) and of the engine (engine/engined/src/engine/counters.rs); a test holds them together.
 */
export interface DropStatus {
  readonly name: string
  readonly where: 'nftables' | 'engine' | 'kernel'
  readonly packets: number
  /** What it means, and what to do. */
  readonly sentence: string
}

interface DropMeaning {
  readonly means: string
  readonly todo: string
  /** Happens on a healthy node: counted, but no reason to look. */
  readonly usual?: true
}

const HOME =
  'Compare the CiliumNodes of both ends (kubectl get ciliumnodes -o yaml); cilium-dbg status lists what is wrong'

export const DROPS: Readonly<Record<string, DropMeaning>> = {
  would_leave_in_clear: {
    means: 'for a pod of another node, or between a pod and another node, but without a route into the tunnel',
    todo: 'Pods wait for a node that has no key or no route yet: see Nodes and Problem in cilium-dbg status',
  },
  host_would_leave_in_clear: {
    means: 'from this node to another one that nodeEncryption covers, but without a route into the tunnel',
    todo: 'See Nodes and Problem in cilium-dbg status for the node that has no key',
  },
  host_entered_in_clear: {
    means: 'came in clear from a node that nodeEncryption covers',
    todo: 'Its agent may not have programmed it yet: see Encryption phase in cilium-dbg status there',
  },
  entered_in_clear: {
    means: "came in clear with a pod's address as source, which a closed node refuses",
    todo: 'A node that does not encrypt, or somebody who forges: cilium encryption status names nodes that do not',
  },
  loop: {
    means: 'encrypted already, but routed into the tunnel again',
    todo: "Something changed the routing rules: look for rules before 201 in ip rule, and at the agent's log",
  },
  multicast: { means: 'multicast into the tunnel, which carries none', todo: 'Nothing', usual: true },
  pod_wrong_source: {
    means: 'sent by a pod from an address that is not its own',
    todo: 'Find the pod by cilium-dbg status --verbose; a pod that routes for others cannot do that here',
  },
  decrypted_wrong_source: { means: "decrypted with one of this node's own addresses as source", todo: HOME },
  vxlan_from_stranger: {
    means: 'VXLAN from an address that is no node of this cluster',
    todo: 'If it is a node, its agent has not announced that address; else somebody sends what he should not',
  },
  vxlan_wrong_source: { means: 'came by VXLAN with a source that is no other pod or node', todo: HOME },
  vxlan_by_pod: {
    means: 'VXLAN written by a pod',
    todo: 'Pods cannot use the tunnel port; another overlay within pods needs another port',
  },
  carrier_by_pod: {
    means:
      "sent by a pod to a node's port of WireGuard or IPsec, or by protocol 50, which would look like its own node's",
    todo: 'Pods cannot speak to these ports of nodes; a tunnel of their own needs another port',
  },
  arrived_for_others: { means: 'came through the tunnel, but for nobody on this node', todo: HOME },
  dropNotIpOut: { means: 'no IP packet, or a damaged one, from the device', todo: 'Nothing', usual: true },
  dropNoPeer: { means: 'for an address that no peer has', todo: HOME },
  dropNoEndpoint: {
    means: 'for a peer whose address is not known yet',
    todo: 'It is learnt from its first packet, or from its CiliumNode: is its agent running?',
  },
  dropBadOffload: { means: 'a super packet of the kernel that makes no sense', todo: 'Please report it' },
  dropWaitingOverflow: {
    means: 'more than 4,096 packets or 1 MiB waited for a handshake, or with IPsec for the first word of a node',
    todo: 'See Nodes in cilium-dbg status: the peer does not answer; is UDP 51871 (IPsec: 4500, or protocol 50) open between the nodes?',
  },
  dropWaitingGivenUp: {
    means: 'the handshake that they waited for was given up after 90 s',
    todo: 'See Nodes in cilium-dbg status: the peer does not answer; is UDP 51871 open between the nodes?',
  },
  dropCounterExhausted: {
    means: 'the session has used all its numbers',
    todo: 'See dropWaitingGivenUp: no new handshake came about',
  },
  dropSendFailed: {
    means: 'the kernel did not take the encrypted packet',
    todo: 'Is there a route to the node, and does a firewall of this node let UDP 51871 (IPsec: 4500, or protocol 50) out?',
  },
  dropNoSocket: { means: 'this node has no socket of that address family', todo: 'Is IPv6 turned off on this node?' },
  dropUnknownMessage: {
    means: 'no message of WireGuard or IPsec',
    todo: 'Something else sends to UDP 51871 (IPsec: 4500)',
  },
  dropUnknownSession: {
    means: 'for a session that is not there (any more)',
    todo: 'A few after a restart are usual; many: two nodes with one key or one address',
  },
  dropExpiredSession: { means: 'for a session older than 180 s', todo: 'Nothing, unless they go on', usual: true },
  dropForged: { means: 'not encrypted with the key of its session', todo: 'Damaged on the way, or somebody tries' },
  dropReplayed: {
    means: 'a number that was there already, or is too old',
    todo: 'Duplicated or much reordered on the way, or somebody tries',
  },
  dropForgedHandshake: {
    means: 'a handshake message of somebody who does not know our public key, or an answer to nothing',
    todo: 'A few after a change of keys are usual; many: somebody tries',
  },
  dropPortZero: {
    means: 'from UDP port 0, where nobody can be answered',
    todo: 'Rewritten on the way, or somebody tries',
  },
  dropNotIpIn: { means: 'decrypted, but no IP packet', todo: 'The peer is of another release, or misbehaves' },
  dropWrongSource: { means: 'decrypted, but its source is not the address of that peer', todo: HOME },
  dropEcnInvalid: {
    means: 'congestion was marked on a packet that says it cannot be',
    todo: 'A router on the way breaks RFC 6040',
  },
  dropTunWriteFailed: {
    means: 'the kernel did not take the decrypted packet',
    todo: 'Is cilium_wg0 or pellicle_ipsec up (ip link)?',
  },
  dropHandshakeOverflow: {
    means: 'more handshake messages than the keeper could take',
    todo: 'The keeper was being restarted, or somebody floods UDP 51871',
  },
}

/** Those of `counters` that packets were dropped by, most first; what else is counted there is left out. */
export function dropsOf(where: DropStatus['where'], counters: Readonly<Record<string, number>>): DropStatus[] {
  return Object.entries(counters)
    .filter(([name, packets]) => packets > 0 && (where === 'nftables' || /^(drop|Xfrm)/.test(name)))
    .map(([name, packets]) => ({ name, where, packets, sentence: sentenceOf(name) }))
    .sort((a, b) => b.packets - a.packets)
}

/** Worth looking at by somebody who did not ask for everything. */
export function isUnusual({ name }: DropStatus): boolean {
  return DROPS[name]?.usual !== true
}

function sentenceOf(name: string): string {
  const meaning = DROPS[name]
  return meaning === undefined ? xfrmSentence(name) : `${meaning.means}. ${meaning.todo}`
}
