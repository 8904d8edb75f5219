import type { AgentConfig } from '#core/api/config.ts'
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
    },
    masquerade: config.masquerade,
    clusterCidrs: config.clusterCidrs,
    tunnel: { vni: DEFAULTS.tunnel.vni, port: config.tunnelPort },
    mark: config.mark.encrypt,
    shape: DEFAULTS.shape,
    gsoMaxSize: DEFAULTS.gsoMaxSize,
  }
}
