import type { IpsecPeer, WireguardPeer } from '#core/datapath/datapath.ts'
import {
  type FdbPlan,
  type NeighbourPlan,
  type RoutePlan,
  TABLE_ENCRYPT_MARKED,
  TABLE_OVERLAY,
  TABLE_POD_STEERING,
  TABLE_STEERING,
} from '#core/host/host-plan.ts'
import { FAMILIES, type Ip } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, hostCidr } from '#core/ip/cidr.ts'
import { macOfIp } from '#core/ip/mac.ts'
import { endpointIp, ipsecEnds, type JudgedPeer, tunnelIp } from './judged-peer.ts'
import { encryptionMtu, ipsecMtu, podDeviceMtu, vxlanMtu } from './mtu.ts'
import { IPSEC_DEVICE, VXLAN_DEVICE } from './names.ts'
import { hasDevice } from './own-node.ts'
import { CLOSING_METRIC, METRIC, TABLE_MAIN } from './routes.ts'
import {
  ENCRYPTION_DEVICE,
  ipsecShape,
  type OwnNode,
  type PerFamily,
  type PlanConfig,
  type Snapshot,
  usesVxlan,
} from './snapshot.ts'

/** Everything in a plan that is there because of one peer; nothing in it depends on another. */
export interface PeerObjects {
  readonly routes: readonly RoutePlan[]
  readonly neighbours: readonly NeighbourPlan[]
  readonly fdb: readonly FdbPlan[]
  readonly wireguard: WireguardPeer | undefined
  readonly ipsec: IpsecPeer | undefined
}

const made = new WeakMap<JudgedPeer, { config: PlanConfig; self: OwnNode; objects: PeerObjects }>()

export function objectsOf(snapshot: Snapshot, judged: JudgedPeer): PeerObjects {
  const { config, self } = snapshot
  const before = made.get(judged)
  if (before?.config === config && before.self === self) return before.objects
  const clear = judged.path === 'clear'
  const ipsec = ipsecOf(snapshot, judged)
  const inVxlan = ipsec !== undefined && ipsecShape(config) === 'esp-in-vxlan'
  const throughVxlan = (clear && config.native === undefined) || (ipsec !== undefined && usesVxlan(config))
  const objects: PeerObjects = {
    routes: [
      // what carries the rest before the rest
      ...(inVxlan ? markedRoutes(snapshot, ipsec) : []),
      ...(clear ? clearRoutes(snapshot, judged) : judged.path === 'encrypted' ? steeringRoutes(snapshot, judged) : []),
    ],
    neighbours: throughVxlan ? neighboursOf(self, judged) : [],
    fdb: throughVxlan ? fdbOf(self, judged) : [],
    wireguard: wireguardOf(snapshot, judged),
    ipsec,
  }
  made.set(judged, { config, self, objects })
  return objects
}

/** In tables of their own, never in main: see routes.ts. */
function steeringRoutes(snapshot: Snapshot, judged: JudgedPeer): readonly RoutePlan[] {
  const { config, self } = snapshot
  const mtu = encryptionMtu(snapshot, judged.via)
  const device = ENCRYPTION_DEVICE[judged.via]
  const route = (destination: Cidr, source: Ip | undefined, table = TABLE_STEERING): RoutePlan[] =>
    source === undefined
      ? []
      : [
          {
            table,
            destination,
            type: 'unicast',
            device,
            source,
            metric: METRIC,
            mtu,
          },
        ]
  const hosts = FAMILIES.flatMap((family) => {
    const ip = judged.nodeIps[family]
    if (ip === undefined) return []
    const ofPods = route(hostCidr(ip), self.internalIps[family], TABLE_POD_STEERING)
    return [
      ...(judged.askedByPods || judged.hosts === 'pods' ? ofPods : []),
      ...(judged.hosts === 'all' ? route(hostCidr(ip), self.nodeIps[family]) : []),
    ]
  })
  const pods = judged.podCidrs.flatMap((cidr) => {
    const family = cidrFamily(cidr)
    const internal = self.internalIps[family]
    // What a UDP server that listens on every address answers by; connections of this node's get the internal one by
    // source NAT all the same.
    const source = judged.podsAskHosts && internal !== undefined ? (self.nodeIps[family] ?? internal) : internal
    return route(cidr, source)
  })
  // pods first: what they send in VXLAN must not enter the tunnel (and the other way round: diff-routing.ts)
  if (ipsecShape(config) !== 'vxlan-in-esp' || judged.ipsec === undefined) return [...pods, ...hosts]
  // while WireGuard still carries the pods' packets, what VXLAN's will need is there before them
  const overlay = judged.via === 'ipsec' ? pods.flatMap((pod) => overlayRoute(snapshot, judged, pod)) : pods
  return [...overlay, ...hosts, ...datagramRoutes(snapshot, judged)]
}

/** First into `cilium_vxlan`; what that sends takes {@link datagramRoutes}. */
function overlayRoute(snapshot: Snapshot, judged: JudgedPeer, pod: RoutePlan): readonly RoutePlan[] {
  const via = judged.internalIps[cidrFamily(pod.destination)]
  return via === undefined ? [] : [{ ...pod, device: VXLAN_DEVICE, via, onlink: true, mtu: vxlanMtu(snapshot) }]
}

/** VXLAN's own packets to that node: into the device, or, when it has gone, nowhere. */
function datagramRoutes(snapshot: Snapshot, judged: JudgedPeer): readonly RoutePlan[] {
  const ip = tunnelIp(snapshot.self, judged.nodeIps)
  if (ip === undefined) return []
  const common = { table: TABLE_OVERLAY, destination: hostCidr(ip) }
  return [
    {
      ...common,
      type: 'unicast',
      device: IPSEC_DEVICE,
      metric: METRIC,
      mtu: ipsecMtu(snapshot),
    },
    { ...common, type: 'unreachable', metric: CLOSING_METRIC },
  ]
}

function clearRoutes(snapshot: Snapshot, judged: JudgedPeer): readonly RoutePlan[] {
  if (snapshot.config.native !== undefined) return nativeRoutes(snapshot, judged)
  const mtu = Math.min(podDeviceMtu(snapshot), vxlanMtu(snapshot))
  return judged.podCidrs.flatMap((destination) => {
    const family = cidrFamily(destination)
    const via = judged.internalIps[family]
    const source = snapshot.self.internalIps[family]
    if (via === undefined || source === undefined) return []
    return [
      {
        table: TABLE_MAIN,
        destination,
        type: 'unicast' as const,
        device: VXLAN_DEVICE,
        via,
        onlink: true as const,
        source,
        metric: METRIC,
        mtu,
      },
    ]
  })
}

/**
 * From the internal IP, as through `cilium_vxlan`: a connection of this node's to a pod outlives encryption being turned on.
 */
function nativeRoutes({ config, self }: Snapshot, judged: JudgedPeer): readonly RoutePlan[] {
  const device = self.underlayDevice
  if (config.native?.directNodeRoutes !== true || device === undefined) return []
  return judged.podCidrs.flatMap((destination) => {
    const family = cidrFamily(destination)
    const [via, source] = [judged.nodeIps[family], self.internalIps[family]]
    if (via === undefined || source === undefined) return []
    return [{ table: TABLE_MAIN, destination, type: 'unicast' as const, device, via, source, metric: METRIC }]
  })
}

/** What carries the mark goes to the peer's internal IP and nowhere else: there is no route into the device in this table. */
function markedRoutes(snapshot: Snapshot, { destination }: IpsecPeer): readonly RoutePlan[] {
  const mtu = vxlanMtu(snapshot)
  return [
    {
      table: TABLE_ENCRYPT_MARKED,
      destination: hostCidr(destination),
      type: 'unicast',
      device: VXLAN_DEVICE,
      metric: METRIC,
      mtu,
    },
  ]
}

/** Every node computes it from the same addresses, so a device that is made anew keeps it (ADR 0004). */
export function vxlanMac(internalIps: PerFamily<Ip>) {
  const ip = internalIps[4] ?? internalIps[6]
  return ip === undefined ? undefined : macOfIp(ip)
}

function neighboursOf(self: OwnNode, judged: JudgedPeer): readonly NeighbourPlan[] {
  const mac = vxlanMac(judged.internalIps)
  return FAMILIES.flatMap((family) => {
    const ip = judged.internalIps[family]
    const used = ip !== undefined && mac !== undefined && self.internalIps[family] !== undefined
    return used ? [{ device: VXLAN_DEVICE, ip, mac }] : []
  })
}

function fdbOf(self: OwnNode, judged: JudgedPeer): readonly FdbPlan[] {
  const mac = vxlanMac(judged.internalIps)
  const destination = tunnelIp(self, judged.nodeIps)
  return mac === undefined || destination === undefined ? [] : [{ device: VXLAN_DEVICE, mac, destination }]
}

/** Seconds. Beside IPsec nothing is sent by WireGuard yet: sessions are begun, so that it is known to work (mode.ts). */
const SESSION_KEEPALIVE = 5

/**
 * The node's own addresses are always among the allowed ones, as in Cilium: a peer that was told of `nodeEncryption`
 * earlier than we may already send from them.
 */
function wireguardOf({ config, self }: Snapshot, judged: JudgedPeer): WireguardPeer | undefined {
  const ip = endpointIp(self, judged.nodeIps)
  if (judged.key === undefined || ip === undefined) return undefined
  const { persistentKeepalive, type, second } = config.encryption
  const begins = type === 'ipsec' && second !== undefined && persistentKeepalive === 0
  return {
    publicKey: judged.key,
    endpoint: { ip, port: config.encryption.listenPort },
    allowedIps: allowedIpsOf(judged),
    persistentKeepalive: begins ? SESSION_KEEPALIVE : persistentKeepalive,
  }
}

function allowedIpsOf({ podCidrs, internalIps, nodeIps }: JudgedPeer): readonly Cidr[] {
  const single = (ips: PerFamily<Ip>) =>
    FAMILIES.flatMap((family) => (ips[family] === undefined ? [] : hostCidr(ips[family])))
  return [...podCidrs, ...single(internalIps), ...single(nodeIps)]
}

function ipsecOf(snapshot: Snapshot, judged: JudgedPeer): IpsecPeer | undefined {
  const { config, self } = snapshot
  const ends = ipsecEnds(config, self, judged)
  if (judged.ipsec === undefined || self.ipsec === undefined || ends === undefined) return undefined
  if (!hasDevice(snapshot, 'ipsec')) return undefined
  return {
    node: judged.peer.name,
    bootId: judged.ipsec.bootId,
    ...ends,
    encapsulation: inUdp(config, judged) ? 'udp' : 'none',
    allowedIps: allowedIpsOf(judged),
    receive: self.ipsec.receive,
    send: judged.ipsec.send,
  }
}

/** Both ends come to the same: a state of the kernel's takes what comes one way only. */
function inUdp({ encryption: { ipsec, byKernel } }: PlanConfig, { peer }: JudgedPeer): boolean {
  if (ipsec.shape !== 'udp') return false
  return ipsec.udpByEngines !== true || (byKernel !== true && peer.byKernel !== true)
}
