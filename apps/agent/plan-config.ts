import type { AgentConfig } from '#core/api/config.ts'
import { type Cidr, containsCidr } from '#core/ip/cidr.ts'
import type { IpsecShape } from '#core/ipsec/shape.ts'
import { DEFAULTS, type PlanConfig } from '#core/plan/snapshot.ts'

/** How this node encrypts; remembered while encryption is being turned off, when the configuration says it no more. */
export interface EncryptionMode {
  readonly type: 'wireguard' | 'ipsec'
  /** Of IPsec. */
  readonly shape: IpsecShape
}

/** Undefined: no encryption is asked for. */
export function modeOf({ encryption, ipsec }: AgentConfig): EncryptionMode | undefined {
  return encryption === 'none' ? undefined : { type: encryption, shape: ipsec.shape }
}

/** What the planner needs of the cluster's configuration; `mode`: of this node, where the configuration has none. */
export function toPlanConfig(config: AgentConfig, remembered?: EncryptionMode): PlanConfig {
  const mode = modeOf(config) ?? remembered
  return {
    encryption: {
      enabled: config.encryption !== 'none',
      type: mode?.type ?? 'wireguard',
      nodeEncryption: config.nodeEncryption,
      listenPort: DEFAULTS.listenPort,
      persistentKeepalive: config.persistentKeepalive,
      ipsec: {
        shape: mode?.shape ?? DEFAULTS.ipsec.shape,
        port: DEFAULTS.ipsec.port,
        ...(config.ipsec.interface === undefined ? {} : { interface: config.ipsec.interface }),
      },
    },
    masquerade: config.masquerade,
    clusterCidrs: widest(config.clusterCidrs),
    tunnel: { vni: DEFAULTS.tunnel.vni, port: config.tunnelPort },
    native: config.native === undefined ? undefined : { ...config.native, cidrs: widest(config.native.cidrs) },
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
