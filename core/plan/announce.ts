import { FAMILIES, type Ip } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import type { IpsecWords } from '#core/ipsec/words.ts'
import { type Announcement, CLOSED } from '#core/transition/level.ts'
import type { PublicKey } from '#core/wireguard/key.ts'
import { hasDevice, hasEncryption } from './own-node.ts'
import { type PerFamily, type Snapshot, STATIC_ENCRYPT_KEY, uses } from './snapshot.ts'

/** What this node says on its own CiliumNode. Written only after the rest of the same plan is in force. */
export interface OwnWords {
  readonly nodeIps: readonly Ip[]
  readonly internalIps: readonly Ip[]
  readonly podCidrs: readonly Cidr[]
  /** Undefined: no annotation. */
  readonly publicKey: PublicKey | undefined
  /** `spec.bootid`; undefined: whichever the agent has. */
  readonly bootId: string | undefined
  /** Undefined: no annotation. */
  readonly ipsec: IpsecWords | undefined
  /** `spec.encryption.key`: 255 or the newest key id, or 0 where nothing or not the host's own traffic is encrypted. */
  readonly keyId: number
  readonly announcement: Announcement
  /** Undefined: no annotation. */
  readonly mode: Announcement | undefined
  /** Nothing leaves here in clear for other nodes' own addresses, but for nodes that are opted out. */
  readonly encryptsHosts: boolean
}

export function ownWords({ config, self }: Snapshot): OwnWords {
  const receives = hasEncryption({ config, self })
  const ipsec = hasDevice({ config, self }, 'ipsec') ? self.ipsec?.words : undefined
  const newest = config.encryption.type === 'ipsec' ? (ipsec?.receives.at(-1)?.id ?? 0) : STATIC_ENCRYPT_KEY
  const exempt = config.encryption.nodeEncryption && self.optedOut
  const list = (ips: PerFamily<Ip>) => FAMILIES.flatMap((family) => ips[family] ?? [])
  return {
    nodeIps: list(self.nodeIps),
    internalIps: list(self.internalIps),
    podCidrs: self.podCidrs,
    publicKey: hasDevice({ config, self }, 'wireguard') ? self.publicKey : undefined,
    bootId: uses(config, 'ipsec') ? self.ipsec?.bootId : undefined,
    ipsec,
    keyId: receives && !exempt ? newest : 0,
    announcement: self.announcement,
    mode: self.mode,
    encryptsHosts: config.encryption.nodeEncryption && !self.optedOut && self.announcement.level === CLOSED && receives,
  }
}
