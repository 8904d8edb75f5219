import type { NftTablePlan } from '#core/host/host-plan.ts'
import { FAMILIES } from '#core/ip/address.ts'
import { POD_DEVICE_PREFIX, POD_TABLE } from './names.ts'
import { drop, NFT, nftBody, nftChain, nftCounters, nftSet } from './nft-text.ts'
import { type LocalEndpoint } from './snapshot.ts'

/**
 * A pod sends only from its own addresses. What a node encrypts is believed by its peers because of the source alone, so
 * this is where that belief comes from. Link-local and unspecified sources are IPv6's own housekeeping and are never
 * forwarded.
 */
export function podTable(endpoints: readonly LocalEndpoint[]): NftTablePlan {
  const chain = nftChain('sources', 'type filter hook prerouting priority raw; policy accept;', [
    `iifname != "${POD_DEVICE_PREFIX}*" accept`,
    ...FAMILIES.map((family) => `iifname . ${NFT[family].ip} saddr @pods${family} accept`),
    'ip6 saddr fe80::/10 accept',
    'ip6 saddr :: accept',
    drop('pod_wrong_source'),
  ])
  const sets = FAMILIES.map((family) =>
    nftSet(
      `pods${family}`,
      `ifname . ${NFT[family].type}`,
      endpoints.flatMap(({ device, ips }) => (ips[family] === undefined ? [] : `"${device}" . ${ips[family]}`)),
    ),
  )
  return { family: 'inet', name: POD_TABLE, body: nftBody([...nftCounters([chain]), ...sets, chain]) }
}
