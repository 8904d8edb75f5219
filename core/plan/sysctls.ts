import type { SysctlPlan } from '#core/host/host-plan.ts'
import { RECEIVING } from '#core/transition/level.ts'
import { hasVxlan } from './links.ts'
import { HOST_DEVICE, HOST_PEER_DEVICE, VXLAN_DEVICE } from './names.ts'
import { familiesOf, hasDevice, hasEncryption } from './own-node.ts'
import { ENCRYPTION_DEVICE, encryptionTypes, hostLevelOf, type LocalEndpoint, type Snapshot } from './snapshot.ts'

/**
 * `rp_filter`: the kernel takes the larger of `all` and the device's, and what is decrypted comes in by another device
 * than answers leave by (ADR 0004). Sources are checked by us instead (nft-steering.ts, nft-pods.ts).
 * `addr_gen_mode` 1 is "none": no link-local address, hence no router solicitations or reports of our own (4.10).
 */
export function sysctls(snapshot: Snapshot): readonly SysctlPlan[] {
  const { config, self } = snapshot
  const devices = [
    HOST_DEVICE,
    HOST_PEER_DEVICE,
    ...(hasVxlan(snapshot) ? [VXLAN_DEVICE] : []),
    ...encryptionTypes(config).flatMap((type) => (hasDevice(snapshot, type) ? ENCRYPTION_DEVICE[type] : [])),
  ]
  const list: SysctlPlan[] = [{ path: 'net/ipv4/conf/all/rp_filter', value: '0' }]
  for (const device of devices) {
    list.push({ path: `net/ipv4/conf/${device}/rp_filter`, value: '0' })
    list.push({ path: `net/ipv6/conf/${device}/addr_gen_mode`, value: '1' })
  }
  // Encrypted packets of a peer, and its answers in clear to pods while encryption is turned on or off, come in here while
  // the way back leads into the encryption device; 2 still asks that there is any way back.
  // The same where pods' packets come in by it as they are.
  const byHosts = config.encryption.nodeEncryption || hostLevelOf(config, self.announcement.level) >= RECEIVING
  const carries = (byHosts && hasEncryption(snapshot)) || config.native !== undefined
  if (carries && self.underlayDevice !== undefined) {
    list.push({ path: `net/ipv4/conf/${self.underlayDevice}/rp_filter`, value: '2' })
  }
  for (const family of familiesOf(snapshot)) {
    list.push({ path: family === 4 ? 'net/ipv4/ip_forward' : 'net/ipv6/conf/all/forwarding', value: '1' })
  }
  return list
}

export function podSysctls(endpoint: LocalEndpoint): readonly SysctlPlan[] {
  return [
    { path: `net/ipv4/conf/${endpoint.device}/rp_filter`, value: '0' },
    { path: `net/ipv6/conf/${endpoint.device}/addr_gen_mode`, value: '1' },
  ]
}
