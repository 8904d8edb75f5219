import type { Ip } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import { type Announcement, CLOSED, RECEIVING } from '#core/transition/level.ts'
import type { PublicKey } from '#core/wireguard/key.ts'
import { FAMILIES, type PerFamily, type Snapshot, STATIC_ENCRYPT_KEY } from './snapshot.ts'

/** What this node says on its own CiliumNode. Written only after the rest of the same plan is in force. */
export interface OwnWords {
  readonly nodeIps: readonly Ip[]
  readonly internalIps: readonly Ip[]
  readonly podCidrs: readonly Cidr[]
  /** Undefined: no annotation. */
  readonly publicKey: PublicKey | undefined
  /** `spec.encryption.key`: 255, or 0 where nothing or not the host's own traffic is encrypted. */
  readonly keyId: number
  readonly announcement: Announcement
  /** Nothing leaves here in clear for other nodes' own addresses, but for nodes that are opted out. */
  readonly encryptsHosts: boolean
}

export function ownWords({ config, self }: Snapshot): OwnWords {
  const receives = self.announcement.level >= RECEIVING && self.publicKey !== undefined
  const exempt = config.encryption.nodeEncryption && self.optedOut
  const list = (ips: PerFamily<Ip>) => FAMILIES.flatMap((family) => ips[family] ?? [])
  return {
    nodeIps: list(self.nodeIps),
    internalIps: list(self.internalIps),
    podCidrs: self.podCidrs,
    publicKey: receives ? self.publicKey : undefined,
    keyId: receives && !exempt ? STATIC_ENCRYPT_KEY : 0,
    announcement: self.announcement,
    encryptsHosts:
      config.encryption.nodeEncryption &&
      !self.optedOut &&
      self.announcement.level === CLOSED &&
      self.publicKey !== undefined,
  }
}
