import type { IpsecSettings } from '#core/datapath/datapath.ts'
import { ipsecMtu } from '#core/plan/mtu.ts'
import { IPSEC_DEVICE } from '#core/plan/names.ts'
import type { Snapshot } from '#core/plan/snapshot.ts'

/** Peers without a common key in force: traffic would still go in clear, and others close by our word that it does not. */
export function unsendable({ config, self, peers }: Snapshot): readonly string[] | undefined {
  const sendBy = self.ipsec?.sendBy
  if (sendBy === undefined || config.encryption.type !== 'ipsec') return undefined
  return peers
    .filter(({ name, granted }) => granted !== undefined && !Object.hasOwn(sendBy, name))
    .map(({ name }) => name)
}

export function ipsecSettings(snapshot: Snapshot): IpsecSettings {
  const { mark, encryption } = snapshot.config
  return { name: IPSEC_DEVICE, mtu: ipsecMtu(snapshot), mark: mark.bits, udpPort: encryption.ipsec.port }
}
