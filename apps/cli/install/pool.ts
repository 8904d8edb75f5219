import type { NodeFacts } from '#core/api/node.ts'
import { POOL_MASKS, poolComplaints, poolNames } from '#core/api/pool.ts'
import { SERVICES } from '#core/api/resources.ts'
import { poolPrefixes } from '#core/api/values.ts'
import { Fault } from '#core/fault/fault.ts'
import { FAMILIES, type Family, parseIp } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, hostCidr, overlaps, parseCidr, requireCidr } from '#core/ip/cidr.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { type Values, valueAt, withValueAt } from '../values/set.ts'
import { type ClusterTexts, serviceSubnets, toldCidrs } from './cluster-cidrs.ts'

/** Addresses that are somebody's already: pods must not get them. */
export interface TakenCidr {
  readonly cidr: Cidr
  /** Such as `node kind-worker` or `Service kubernetes`. */
  readonly of: string
}

/** Cilium's own, where nobody tells another. */
const STANDARD = { 4: requireCidr('10.0.0.0/8', 'standard'), 6: requireCidr('fd00::/104', 'standard') } as const

/**
 * With `ipam.mode=cluster-pool`, what nodes get their pod CIDRs from: what is given; else the pod prefixes that the cluster
 * tells of (kube-proxy may know them too); else Cilium's standard. Nobody's addresses may be in it: what is no node's pod
 * CIDR leads nowhere, Services and nodes too. Prefixes of the pool that is in use already (`deployed`, the release's values)
 * are not refused for that, only told: nothing would be better without this upgrade.
 * @returns the values, and a line for each that was found
 * @throws Fault `install.pool` with the prefix and what is wrong with it
 */
export function completePool(
  given: Values,
  texts: ClusterTexts,
  taken: readonly TakenCidr[],
  deployed: Values = {},
): { readonly values: Values; readonly lines: readonly string[] } {
  const lines: string[] = []
  let values = given
  const ofFamily = (family: Family) => poolPrefixes(valueAt(given, poolNames(family).value))
  const isGiven = FAMILIES.some((family) => ofFamily(family).length > 0)
  const told = toldCidrs(texts)
  for (const family of FAMILIES) {
    const enabled = `ipv${family}.enabled`
    const wanted = valueAt(given, enabled)
    if (wanted === false) continue
    let pool = ofFamily(family)
    if (pool.length === 0) {
      const all = told?.cidrs.filter((cidr) => cidrFamily(cidr) === family) ?? []
      // who gives an IPv4 pool alone asks for no IPv6
      const found = family === 6 && isGiven && wanted !== true ? [] : all
      const standard = wanted === true || (family === 4 && told === undefined)
      pool = found.length > 0 ? found : standard ? [STANDARD[family]] : []
      if (pool.length === 0) {
        if (family === 4) values = withValueAt(values, enabled, false)
        continue
      }
      const from = found.length > 0 ? (told?.from ?? '') : "Cilium's standard"
      lines.push(`🔮 Auto-detected IPv${family} pool of pod CIDRs: ${pool.join(', ')} (${from})`)
      values = withValueAt(values, poolNames(family).value, [...pool])
    }
    lines.push(...judge(family, pool, values, taken, poolPrefixes(valueAt(deployed, poolNames(family).value))))
    if (family === 6 && wanted === undefined) {
      lines.push(`🔮 Auto-detected ${enabled}=true`)
      values = withValueAt(values, enabled, true)
    }
  }
  return { values, lines }
}

/** @returns what is wrong with prefixes of `deployed` */
function judge(
  family: Family,
  pool: readonly Cidr[],
  values: Values,
  taken: readonly TakenCidr[],
  deployed: readonly Cidr[],
): readonly string[] {
  const told: string[] = []
  const { value } = poolNames(family)
  const size = valueAt(values, `ipam.operator.clusterPoolIPv${family}MaskSize`)
  const maskSize = typeof size === 'number' ? size : POOL_MASKS[family].standard
  const [wrong] = poolComplaints(family, { cidrs: pool, maskSize })
  if (wrong !== undefined) {
    throw new Fault('install.pool', `${value}: ${wrong.sentence}`, { field: value, remedy: wrong.remedy })
  }
  for (const cidr of pool) {
    const other = taken.find((each) => overlaps(each.cidr, cidr))
    if (other === undefined) continue
    const sentence = `${value}: ${cidr} holds ${other.cidr} of ${other.of}`
    if (deployed.includes(cidr)) {
      told.push(`⚠️  ${sentence}, which pods do not reach: it is in use already, and stays`)
      continue
    }
    throw new Fault('install.pool', `${sentence}, which is for pods alone then`, {
      field: value,
      remedy: `Give a prefix that neither nodes nor Services have addresses of: --set '${value}={${family === 4 ? '10.244.0.0/16' : 'fd00:10:244::/104'}}'`,
    })
  }
  return told
}

/** Addresses of nodes and Services, as far as anybody tells. */
export async function takenCidrs(
  client: KubeClient,
  nodes: readonly NodeFacts[],
  texts: ClusterTexts,
  signal: AbortSignal,
): Promise<readonly TakenCidr[]> {
  const service = await client.find(SERVICES, 'kubernetes', { namespace: 'default', signal })
  const ips = (service?.spec?.clusterIPs ?? []).flatMap((text) => parseIp(text) ?? [])
  return [
    ...nodes.flatMap(({ name, internalIps }) => internalIps.map((ip) => ({ cidr: hostCidr(ip), of: `node ${name}` }))),
    ...serviceSubnets(texts).flatMap((text) => {
      const cidr = parseCidr(text)
      return cidr === undefined ? [] : [{ cidr, of: "the cluster's Services" }]
    }),
    ...ips.map((ip) => ({ cidr: hostCidr(ip), of: 'Service kubernetes' })),
  ]
}
