import type { NftTablePlan } from '#core/host/host-plan.ts'
import { FAMILIES, type Ip } from '#core/ip/address.ts'
import { CLOSED, SENDING } from '#core/transition/level.ts'
import type { JudgedPeer } from './judged-peer.ts'
import { hasVxlan } from './links.ts'
import { IPSEC_DEVICE, POD_DEVICE_PREFIX, STEERING_TABLE, VXLAN_DEVICE } from './names.ts'
import { answers, answersByIpsec, fittingAnswers, podsToHosts } from './nft-answers.ts'
import { carriers, carriersByPods, untracked } from './nft-carriers.ts'
import { sourceNat } from './nft-nat.ts'
import {
  both,
  carriesEsp,
  carriesHosts,
  clusterOf,
  each,
  encryptsVxlan,
  hex,
  INSIDE,
  inside,
  isClosed,
  ownOf,
} from './nft-parts.ts'
import { drop, NFT, nftBody, nftChain, nftCounters, nftSet, outside, within } from './nft-text.ts'
import { answerMark, encryptionDevices, hostLevelOf, ipsecShape, otherMark, type Snapshot } from './snapshot.ts'

/**
 * The table of the node itself: what may enter and leave, and by which address (docs/adr/0004-steering.md has a
 * picture). It does not depend on the pods, so that a pod's coming and going does not write 5,000 nodes again.
 *
 * Where it stands beside kube-proxy: filters at `raw` (-300) before its DNAT (-100), at postrouting 300 after its
 * masquerading (100), so that addresses are those on the wire; our source NAT at 95, before its own.
 */
export function steeringTable(snapshot: Snapshot, peers: readonly JudgedPeer[]): NftTablePlan {
  const chains = [
    ...untracked(snapshot),
    enter(snapshot),
    ...(hasVxlan(snapshot) ? [fromVxlan(snapshot)] : []),
    fromEncryption(snapshot),
    forward(snapshot),
    arrived(),
    ...findAnew(snapshot),
    ...answers(snapshot),
    ...overlay(snapshot),
    leave(snapshot),
    ...(carriesEsp(snapshot) ? [intoVxlan(snapshot)] : []),
    intoEncryption(snapshot),
    ...sourceNat(snapshot),
  ]
  return {
    family: 'inet',
    name: STEERING_TABLE,
    body: nftBody([...nftCounters(chains), ...sets(snapshot, peers), ...chains]),
  }
}

function sets({ config, self }: Snapshot, peers: readonly JudgedPeer[]): string[] {
  return FAMILIES.flatMap((family) => {
    const { type } = NFT[family]
    const ips = (list: readonly JudgedPeer[]) => list.flatMap((peer) => peer.nodeIps[family] ?? [])
    const carried = peers.filter((peer) => peer.hosts !== 'none')
    const unique = (list: readonly (Ip | undefined)[]) => [...new Set(list.filter((ip) => ip !== undefined))]
    const hostLevel = hostLevelOf(config, self.announcement.level)
    return [
      nftSet(`nodes${family}`, type, ips(peers)),
      nftSet(`hosts${family}`, type, unique(carried.map((peer) => peer.guarded[family]))),
      ...(hostLevel >= SENDING
        ? [
            // not of an opted-out node with `nodeEncryption`, whose pods keep their address
            nftSet(`asked${family}`, type, ips(peers.filter((peer) => peer.askedByPods && peer.hosts === 'none'))),
            nftSet(`answered${family}`, type, ips(peers.filter((peer) => peer.answered))),
            nftSet(`asking${family}`, type, ips(peers.filter((peer) => peer.answered && peer.hosts !== 'all'))),
          ]
        : []),
      ...(hostLevel === CLOSED
        ? [nftSet(`guarded${family}`, type, unique(peers.map((peer) => peer.guardedFromPods[family])))]
        : []),
      nftSet(`refused${family}`, type, ips(peers.filter((peer) => peer.refused))),
      ...(ipsecShape(config) === 'vxlan-in-esp'
        ? [nftSet(`overlay${family}`, type, ips(peers.filter((peer) => peer.path === 'encrypted' && peer.ipsec)))]
        : []),
      ...(ipsecShape(config) === 'esp-in-vxlan'
        ? [
            nftSet(
              `ends${family}`,
              type,
              peers.flatMap((peer) => (peer.ipsec && peer.internalIps[family]) ?? []),
            ),
          ]
        : []),
    ]
  })
}

/** Between neighbours, never routed: without it no encrypted packet finds its way either. */
const ICMPV6_OF_THE_LINK = 'nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert'

/** Before routing and DNAT. */
function enter(snapshot: Snapshot): string {
  const underlay = snapshot.self.nodeIps[4] === undefined ? 6 : 4
  const vxlan = `udp dport ${snapshot.config.tunnel.port} fib daddr type local`
  const devices = encryptionDevices(snapshot.config)
  const cluster = clusterOf(snapshot)
  const fromNodes = `${NFT[underlay].ip} saddr @nodes${underlay}`
  return nftChain('enter', 'type filter hook prerouting priority raw; policy accept;', [
    // before anything that accepts: VXLAN has no sender that could be checked but the outer one, so it comes from nodes, by
    // the network between them. (The kernel takes it on every address of this node, a pod's packet too.)
    ...(hasVxlan(snapshot)
      ? [
          // the engine has checked that it comes from that node
          encryptsVxlan(snapshot) ? `iifname "${IPSEC_DEVICE}" ${vxlan} ${fromNodes} accept` : undefined,
          ...[...devices, VXLAN_DEVICE, ...INSIDE].map(
            (name) => `iifname "${name}" ${vxlan} ${drop('vxlan_from_stranger')}`,
          ),
          `${vxlan} ${NFT[underlay].ip} saddr != @nodes${underlay} ${drop('vxlan_from_stranger')}`,
          isClosed(snapshot) && encryptsVxlan(snapshot) ? `${vxlan} ${drop('entered_in_clear')}` : undefined,
        ]
      : []),
    ...devices.map((device) => `iifname "${device}" goto from_encryption`),
    hasVxlan(snapshot) ? `iifname "${VXLAN_DEVICE}" goto from_vxlan` : undefined,
    ...inside('iifname'),
    ...(isClosed(snapshot)
      ? [
          ...each(cluster, (ip, cidrs) =>
            within(`${ip} saddr`, cidrs).map((from) => `${from} ${drop('entered_in_clear')}`),
          ),
          ...each(cluster, (ip, cidrs, n) =>
            within(`${ip} daddr`, cidrs).map((to) => `${ip} saddr @nodes${n} ${to} ${drop('entered_in_clear')}`),
          ),
        ]
      : []),
    ...(carriesHosts(snapshot)
      ? [
          // what carries the rest, and what the network under it needs
          ...carriers(snapshot).map((carrier) => `${carrier} accept`),
          'icmp type { destination-unreachable, time-exceeded, parameter-problem } accept',
          `icmpv6 type { ${ICMPV6_OF_THE_LINK}, destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept`,
          ...both((ip, n) => `${ip} saddr @refused${n} fib daddr type local ${drop('host_entered_in_clear')}`),
        ]
      : []),
  ])
}

/**
 * Inner sources: a pod of another node, or with `nodeEncryption` turned on or off a moment ago that node itself; never
 * one of ours and never anybody outside. Closed, with ESP inside: that of nodes for this node, and nothing else.
 */
function fromVxlan(snapshot: Snapshot): string {
  return nftChain('from_vxlan', undefined, [
    ...(carriesEsp(snapshot)
      ? FAMILIES.flatMap((n) => {
          const own = snapshot.self.internalIps[n]
          const { ip } = NFT[n]
          return own === undefined ? [] : [`meta l4proto esp ${ip} saddr @ends${n} ${ip} daddr ${own} accept`]
        }).concat(drop('entered_in_clear'))
      : []),
    ...each(ownOf(snapshot), (ip, own) =>
      within(`${ip} saddr`, own).map((from) => `${from} ${drop('vxlan_wrong_source')}`),
    ),
    ...each(clusterOf(snapshot), (ip, cluster, n) => [
      `${outside(`${ip} saddr`, cluster)} ${ip} saddr != @nodes${n} ${drop('vxlan_wrong_source')}`,
    ]),
  ])
}

/** The engine has checked that the source belongs to the peer; that it is not ours holds even if it had not. */
function fromEncryption(snapshot: Snapshot): string {
  return nftChain('from_encryption', undefined, [
    ...each(ownOf(snapshot), (ip, own) =>
      within(`${ip} saddr`, own).map((from) => `${from} ${drop('decrypted_wrong_source')}`),
    ),
  ])
}

function forward(snapshot: Snapshot): string {
  return nftChain('forward', 'type filter hook forward priority filter; policy accept;', [
    ...encryptionDevices(snapshot.config).map((device) => `iifname "${device}" goto arrived`),
    hasVxlan(snapshot) ? `iifname "${VXLAN_DEVICE}" goto arrived` : undefined,
    ...carriersByPods(snapshot),
  ])
}

/** What came through a tunnel is for this node: its pods, or a Service's endpoint that kube-proxy chose. */
function arrived(): string {
  return nftChain('arrived', undefined, [
    `oifname "${POD_DEVICE_PREFIX}*" accept`,
    'ct status dnat accept',
    drop('arrived_for_others'),
  ])
}

/** After routing and source NAT, forwarded and the node's own alike: the last look before the wire. */
function leave(snapshot: Snapshot): string {
  const { config } = snapshot
  const { bits, mask } = config.mark
  const closed = isClosed(snapshot)
  const cluster = clusterOf(snapshot)
  return nftChain('leave', 'type filter hook postrouting priority 300; policy accept;', [
    ...encryptionDevices(snapshot.config).map((device) => `oifname "${device}" goto into_encryption`),
    // XFRM shows what it is about to encrypt once more, as if it left by the device that the result will leave by
    config.encryption.byKernel === true && ipsecShape(config) !== undefined ? 'rt ipsec exists accept' : undefined,
    carriesEsp(snapshot) ? `oifname "${VXLAN_DEVICE}" goto into_vxlan` : undefined,
    ...inside('oifname'),
    ...(closed && encryptsVxlan(snapshot)
      ? [
          hasVxlan(snapshot) ? `oifname "${VXLAN_DEVICE}" accept` : undefined,
          ...both((ip, n) => `udp dport ${config.tunnel.port} ${ip} daddr @nodes${n} ${drop('would_leave_in_clear')}`),
        ]
      : []),
    ...(closed
      ? [
          ...each(cluster, (ip, cidrs) =>
            within(`${ip} daddr`, cidrs).map((to) => `${to} ${drop('would_leave_in_clear')}`),
          ),
          ...each(cluster, (ip, cidrs, n) =>
            within(`${ip} saddr`, cidrs).map(
              (from) => `${from} ${ip} daddr @nodes${n} ${drop('would_leave_in_clear')}`,
            ),
          ),
        ]
      : []),
    ...(carriesHosts(snapshot)
      ? [
          `meta mark & ${hex(mask)} == ${hex(bits)} accept`,
          `icmpv6 type { ${ICMPV6_OF_THE_LINK} } accept`,
          ...both((ip, n) => `${ip} daddr @hosts${n} ${drop('host_would_leave_in_clear')}`),
        ]
      : []),
    // of an opted-out node only its pods' packets: by now they have its address
    ...(closed && snapshot.config.encryption.nodeEncryption && snapshot.self.optedOut
      ? each(ownOf(snapshot), (ip, own, n) =>
          within(`ct original ${ip} saddr`, own).map(
            (from) => `${from} ${ip} daddr @hosts${n} ${drop('would_leave_in_clear')}`,
          ),
        )
      : []),
    ...podsToHosts(snapshot),
  ])
}

/** Closed: what the datapath has encrypted for another node. */
function intoVxlan(snapshot: Snapshot): string {
  const { bits, mask } = snapshot.config.mark
  return nftChain('into_vxlan', undefined, [
    ...both((ip, n) => `meta mark & ${hex(mask)} == ${hex(bits)} meta l4proto esp ${ip} daddr @ends${n} accept`),
    drop('would_leave_in_clear'),
  ])
}

function intoEncryption(snapshot: Snapshot): string {
  const { bits, mask } = snapshot.config.mark
  return nftChain('into_encryption', undefined, [
    `meta mark & ${hex(mask)} == ${hex(bits)} ${drop('loop')}`,
    // group reports of the kernel: the device is silent until somebody talks (ADR 0004)
    `ip daddr 224.0.0.0/4 ${drop('multicast')}`,
    `ip6 daddr ff00::/8 ${drop('multicast')}`,
    ...fittingAnswers(snapshot),
  ])
}

/**
 * The kernel goes on with a connected IPv6 socket's way in main although table 201 has a better one since (IPv4's is
 * looked up again after every change). A packet whose mark changes here is routed anew.
 */
function findAnew(snapshot: Snapshot): string[] {
  const { bits, mask } = snapshot.config.mark
  const other = otherMark(snapshot.config)
  // a mask of a single bit leaves no other mark
  if (snapshot.self.announcement.level < SENDING || snapshot.self.optedOut || other === 0) return []
  return [
    nftChain('find_anew', 'type route hook output priority mangle; policy accept;', [
      `meta mark & ${hex(mask)} == ${hex(bits)} accept`,
      answersByIpsec(snapshot) ? `meta mark & ${hex(mask)} == ${hex(answerMark(snapshot.config))} accept` : undefined,
      `icmpv6 type { ${ICMPV6_OF_THE_LINK} } accept`,
      `ip6 daddr @hosts6 meta mark set meta mark & ${hex(~mask >>> 0)} | ${hex(other)}`,
    ]),
  ]
}

/** Routing cannot tell what `cilium_vxlan` sends from the node's other packets, a mark can. */
function overlay(snapshot: Snapshot): string[] {
  const { mark, tunnel } = snapshot.config
  if (!encryptsVxlan(snapshot) || snapshot.self.announcement.level < SENDING) return []
  const change = `meta mark set meta mark & ${hex(~mark.mask >>> 0)} | ${hex(otherMark(snapshot.config))}`
  return [
    nftChain(
      'overlay',
      'type route hook output priority mangle; policy accept;',
      both((ip, n) => `udp dport ${tunnel.port} ${ip} daddr @overlay${n} ${change}`),
    ),
  ]
}
