import type { AgentConfig } from '#core/api/config.ts'
import { type Cidr, containsCidr } from '#core/ip/cidr.ts'
import type { IpsecShape } from '#core/ipsec/shape.ts'
import { DEFAULTS, type PlanConfig } from '#core/plan/snapshot.ts'
import type { Announcement } from '#core/transition/level.ts'
import { type EncryptionType, receivesBy } from '#core/transition/mode.ts'

/** How this node encrypts, or is asked to: remembered, since the configuration may ask for something else already. */
export interface EncryptionMode {
  /** What it sends by. */
  readonly type: EncryptionType
  /** While it changes from one to the other: what it receives by as well. */
  readonly second?: EncryptionType | undefined
  /** Of IPsec. */
  readonly shape: IpsecShape
}

/** Of a node at that stage (core/transition/mode.ts). */
export function modeAt(stage: Announcement, shape: IpsecShape): EncryptionMode {
  const [type, second] = receivesBy(stage.level)
  return { type, ...(second === undefined ? {} : { second }), shape }
}

/** What is asked for; undefined: no encryption. */
export function modeOf({ encryption, ipsec }: AgentConfig): EncryptionMode | undefined {
  return encryption === 'none' ? undefined : { type: encryption, shape: ipsec.shape }
}

/**
 * What the planner needs of the cluster's configuration; `own`: what this node does, where it is another mode. `byKernel`:
 * its datapath is the kernel's.
 */
export function toPlanConfig(config: AgentConfig, own?: EncryptionMode, byKernel = false): PlanConfig {
  const mode = own ?? modeOf(config)
  return {
    encryption: {
      enabled: config.encryption !== 'none',
      type: mode?.type ?? 'wireguard',
      ...(mode?.second === undefined ? {} : { second: mode.second }),
      nodeEncryption: config.nodeEncryption,
      listenPort: DEFAULTS.listenPort,
      persistentKeepalive: config.persistentKeepalive,
      ipsec: {
        shape: mode?.shape ?? DEFAULTS.ipsec.shape,
        port: DEFAULTS.ipsec.port,
        ...(config.ipsec.udpEncapsulation === 'auto' ? { udpByEngines: true } : {}),
        ...(config.ipsec.interface === undefined ? {} : { interface: config.ipsec.interface }),
      },
      ...(byKernel ? { byKernel } : {}),
    },
    masquerade: config.masquerade,
    clusterCidrs: widest(config.clusterCidrs),
    tunnel: { vni: DEFAULTS.tunnel.vni, port: config.tunnelPort },
    native: config.native === undefined ? undefined : { ...config.native, cidrs: widest(config.native.cidrs) },
    mark: config.mark.encrypt,
    gsoMaxSize: DEFAULTS.gsoMaxSize,
  }
}

/** Without those that another holds: they say nothing more, and each costs a rule. */
function widest(cidrs: readonly Cidr[]): readonly Cidr[] {
  const all = [...new Set(cidrs)]
  return all.filter((cidr) => !all.some((other) => other !== cidr && containsCidr(other, cidr)))
}
