import type { AgentConfig } from '#core/api/config.ts'
import { type Cidr, containsCidr } from '#core/ip/cidr.ts'
import { DEFAULTS, type PlanConfig } from '#core/plan/snapshot.ts'

/** What the planner needs of the cluster's configuration. */
export function toPlanConfig(config: AgentConfig): PlanConfig {
  return {
    encryption: {
      enabled: config.encryption === 'wireguard',
      type: 'wireguard',
      nodeEncryption: config.nodeEncryption,
      listenPort: DEFAULTS.listenPort,
      persistentKeepalive: config.persistentKeepalive,
      ipsec: DEFAULTS.ipsec,
    },
    masquerade: config.masquerade,
    clusterCidrs: widest(config.clusterCidrs),
    tunnel: { vni: DEFAULTS.tunnel.vni, port: config.tunnelPort },
    mark: config.mark.encrypt,
    shape: DEFAULTS.shape,
    gsoMaxSize: DEFAULTS.gsoMaxSize,
  }
}

/** Without those that another holds: they say nothing more, and nftables refuses a set with overlapping intervals. */
function widest(cidrs: readonly Cidr[]): readonly Cidr[] {
  const all = [...new Set(cidrs)]
  return all.filter((cidr) => !all.some((other) => other !== cidr && containsCidr(other, cidr)))
}
