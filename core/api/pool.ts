import { Fault } from '#core/fault/fault.ts'
import { FAMILIES, type Family } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, containsCidr, lengthOf, overlaps } from '#core/ip/cidr.ts'

/** What IPAM mode `cluster-pool` gives nodes pod CIDRs from: a prefix of `maskSize` each, out of `cidrs` in their order. */
export interface NodePool {
  readonly cidrs: readonly Cidr[]
  readonly maskSize: number
}

export type NodePools = { readonly [family in Family]: NodePool }

/** As in Cilium's chart. A node's prefix must hold its own address, and a pod's. */
export const POOL_MASKS = { 4: { standard: 24, most: 30 }, 6: { standard: 120, most: 126 } } as const

/** In ConfigMap `cilium-config`, and in the chart's values. */
export function poolNames(family: Family): { readonly key: string; readonly maskKey: string; readonly value: string } {
  return {
    key: `cluster-pool-ipv${family}-cidr`,
    maskKey: `cluster-pool-ipv${family}-mask-size`,
    value: `ipam.operator.clusterPoolIPv${family}PodCIDRList`,
  }
}

export interface PoolComplaint {
  readonly sentence: string
  readonly remedy: string
}

/** What is wrong with a pool by itself. */
export function poolComplaints(family: Family, { cidrs, maskSize }: NodePool): readonly PoolComplaint[] {
  const complaints: PoolComplaint[] = []
  const complain = (sentence: string, remedy: string) => complaints.push({ sentence, remedy })
  for (const [i, cidr] of cidrs.entries()) {
    if (cidrFamily(cidr) !== family) complain(`${cidr} is not IPv${family}`, `Write IPv${family} prefixes`)
    else if (lengthOf(cidr) > maskSize) {
      complain(
        `${cidr} is smaller than one node's /${maskSize}`,
        `Take a larger prefix, or a mask of ${lengthOf(cidr)} to ${POOL_MASKS[family].most}`,
      )
    }
    const other = cidrs.slice(0, i).find((earlier) => overlaps(earlier, cidr))
    if (other !== undefined) complain(`${cidr} overlaps ${other} of the same pool`, 'Remove one of them')
  }
  return complaints
}

/** What a configuration says about where pod CIDRs come from. */
export interface IpamChoice {
  readonly ipam: 'kubernetes' | 'cluster-pool'
  readonly pool: NodePools
}

/**
 * Why a running cluster cannot go from one to the other: nodes hold pod CIDRs of it, and pods addresses of those. Prefixes
 * may be added (as in Cilium, where anything else has "unexpected" effects).
 */
export function poolChangeFaults(before: IpamChoice, after: IpamChoice): readonly Fault[] {
  if (before.ipam !== after.ipam) {
    return [
      new Fault(
        'ipam.mode-change',
        `ipam cannot change from ${before.ipam} to ${after.ipam} while nodes have pod CIDRs of ${before.ipam}`,
        { field: 'ipam.mode', remedy: `Leave ipam.mode at ${before.ipam}, or uninstall and install anew` },
      ),
    ]
  }
  if (after.ipam !== 'cluster-pool') return []
  return FAMILIES.flatMap((family) => {
    const { key, maskKey, value } = poolNames(family)
    const [had, has] = [before.pool[family], after.pool[family]]
    if (had.cidrs.length === 0) return []
    const faults = had.cidrs
      .filter((cidr) => !has.cidrs.includes(cidr))
      .map((cidr) => {
        const now = has.cidrs.find((each) => overlaps(each, cidr))
        return new Fault(
          'ipam.pool-change',
          `${key} has no ${cidr} any more${now === undefined ? '' : `, but ${now}`}: nodes may have pod CIDRs of it`,
          { field: value, remedy: `Leave ${had.cidrs.join(' ')} there and add another prefix behind it` },
        )
      })
    if (had.maskSize !== has.maskSize) {
      const sentence = `${maskKey} cannot change from ${had.maskSize} to ${has.maskSize} while nodes have pod CIDRs of that size`
      faults.push(new Fault('ipam.pool-change', sentence, { field: maskKey, remedy: `Leave it at ${had.maskSize}` }))
    }
    return faults
  })
}

/** What is given beside the pools, and those: what pods may ever get addresses of. */
export function withPools(given: readonly Cidr[], pools: readonly NodePool[]): readonly Cidr[] {
  const all = pools.flatMap(({ cidrs }) => cidrs)
  return [...given, ...all.filter((cidr) => !given.some((outer) => containsCidr(outer, cidr)))]
}
