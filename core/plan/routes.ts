import type { RoutePlan, RulePlan } from '#core/host/host-plan.ts'
import { TABLE_ENCRYPT_MARKED, TABLE_OVERLAY, TABLE_POD_STEERING, TABLE_STEERING } from '#core/host/host-plan.ts'
import { FAMILIES, type Family } from '#core/ip/address.ts'
import { cidrFamily, hostCidr } from '#core/ip/cidr.ts'
import { CLOSED, RECEIVING } from '#core/transition/level.ts'
import { familiesOf, ofFamily } from './own-node.ts'
import { answerMark, hostLevelOf, ipsecShape, type LocalEndpoint, otherMark, type Snapshot } from './snapshot.ts'

export const TABLE_MAIN = 254
/** The kernel's own for IPv6, so that both families look alike. */
export const METRIC = 1024
/** Worse than anything that somebody would choose. */
export const CLOSING_METRIC = 1_000_000
/** After `local` (0), long before main (32766). */
const MARKED_RULE_PRIORITY = 200
const STEERING_RULE_PRIORITY = 201
const POD_STEERING_RULE_PRIORITY = 202

/**
 * What keeps a packet for a pod that has no better route from taking the default route (ADR 0004): in main,
 * which is also what remains when table 201 is emptied by a device that went away.
 */
export function blackholes(snapshot: Snapshot): readonly RoutePlan[] {
  const { config, self } = snapshot
  // other nodes' pods are reached by whatever the network's routers are reached by
  if (config.native?.directNodeRoutes === false && self.announcement.level < CLOSED) return []
  const used = new Set(familiesOf(snapshot))
  return snapshot.config.clusterCidrs
    .filter((cidr) => used.has(cidrFamily(cidr)))
    .flatMap((destination): RoutePlan[] => [
      { table: TABLE_MAIN, destination, type: 'blackhole', metric: CLOSING_METRIC },
      // what is encrypted already must not fall through to other tables when its device goes
      ...(routesMarked(snapshot)
        ? [{ table: TABLE_ENCRYPT_MARKED, destination, type: 'unreachable' as const, metric: CLOSING_METRIC }]
        : []),
    ])
}

/** Encrypted packets are addressed to internal IPs, so they need a table of their own. */
function routesMarked({ config, self }: Snapshot): boolean {
  return self.announcement.level >= RECEIVING && ipsecShape(config) === 'esp-in-vxlan'
}

/**
 * From the node's own address: a UDP server of the node that listens on every address answers by the route's, and its
 * pods have asked the node's. (Towards pods of other nodes it must be the internal IP: ADR 0004.)
 */
export function podRoutes(snapshot: Snapshot, endpoint: LocalEndpoint): readonly RoutePlan[] {
  const { internalIps, nodeIps } = snapshot.self
  return FAMILIES.flatMap((family) => {
    const ip = endpoint.ips[family]
    const source = nodeIps[family] ?? internalIps[family]
    if (ip === undefined || internalIps[family] === undefined || source === undefined) return []
    return [
      {
        table: TABLE_MAIN,
        destination: hostCidr(ip),
        type: 'unicast' as const,
        device: endpoint.device,
        source,
        metric: METRIC,
      },
    ]
  })
}

/**
 * "Not marked" reaches the steering table: what is encrypted already carries the mark and goes by main. Without it the
 * encrypted packets of `nodeEncryption` would enter the device again (ADR 0004).
 */
export function steeringRules(snapshot: Snapshot): readonly RulePlan[] {
  const { config, self } = snapshot
  if (self.announcement.level < RECEIVING) return []
  const toAll = familiesOf(snapshot)
    .concat(FAMILIES.filter((family) => hostsIn(snapshot, family)))
    .filter((family, index, all) => all.indexOf(family) === index)
    .map((family) => ({
      family,
      priority: STEERING_RULE_PRIORITY,
      mark: config.mark.bits,
      mask: config.mark.mask,
      invert: true,
      table: TABLE_STEERING,
    }))
  return [...markedRules(snapshot), ...toAll, ...podSteeringRules(snapshot)]
}

/**
 * For all else of a marked packet (the VXLAN datagram around it carries the mark too) the table has no route: main. With
 * VXLAN inside ESP it is the datagram that is marked, with another mark (nft-steering.ts).
 */
function markedRules(snapshot: Snapshot): readonly RulePlan[] {
  const { config, self } = snapshot
  const { bits, mask } = config.mark
  const rule = (family: Family, mark: number, table: number) => ({
    family,
    priority: MARKED_RULE_PRIORITY,
    mark,
    mask,
    invert: false,
    table,
  })
  if (routesMarked(snapshot)) return familiesOf(snapshot).map((family) => rule(family, bits, TABLE_ENCRYPT_MARKED))
  if (ipsecShape(config) !== 'vxlan-in-esp') return []
  return [rule(self.nodeIps[4] === undefined ? 6 : 4, otherMark(config), TABLE_OVERLAY)]
}

/**
 * A node's own packets to other nodes may go in clear where its pods', and answers to others' pods, do not: those of an
 * opted-out node, and with IPsec those of any. Only a rule can tell them apart: by the pod's address, which source NAT changes
 * later, or by the mark of an answer (nft-answers.ts).
 */
function podSteeringRules(snapshot: Snapshot): readonly RulePlan[] {
  const { config, self } = snapshot
  const byIpsec = hostLevelOf(config, self.announcement.level) >= RECEIVING
  if (!byIpsec && !(config.encryption.nodeEncryption && self.optedOut)) return []
  return familiesOf(snapshot).flatMap((family) => {
    const common = { family, priority: POD_STEERING_RULE_PRIORITY, invert: false, table: TABLE_POD_STEERING }
    return [
      ...ofFamily(self.podCidrs, family).map((source) => ({ ...common, source, mark: 0, mask: 0 })),
      ...(byIpsec ? [{ ...common, mark: answerMark(config), mask: config.mark.mask }] : []),
    ]
  })
}

/** Whether host addresses of that family may be steered: pods need not have the family for that. */
function hostsIn({ config, self }: Snapshot, family: 4 | 6): boolean {
  return config.encryption.nodeEncryption && !self.optedOut && self.nodeIps[family] !== undefined
}
