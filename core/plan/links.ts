import type { AddressPlan, LinkPlan } from '#core/host/host-plan.ts'
import { FAMILIES, FAMILY_BITS } from '#core/ip/address.ts'
import { CLOSED } from '#core/transition/level.ts'
import { encryptionMtu, gsoMaxSize, podDeviceMtu, vxlanMtu } from './mtu.ts'
import { HOST_DEVICE, HOST_PEER_DEVICE, VXLAN_DEVICE } from './names.ts'
import { hasDevice } from './own-node.ts'
import { vxlanMac } from './peer-objects.ts'
import { ENCRYPTION_DEVICE, encryptionTypes, type LocalEndpoint, type Snapshot, usesVxlan } from './snapshot.ts'

/** While anything may come or go in clear, and where it is part of what is encrypted. */
export function hasVxlan(snapshot: Snapshot): boolean {
  const { config, self } = snapshot
  if (config.native !== undefined) return false
  return self.announcement.level < CLOSED || (usesVxlan(config) && hasDevice(snapshot, 'ipsec'))
}

export function links(snapshot: Snapshot): readonly LinkPlan[] {
  const { config, self } = snapshot
  const local = self.nodeIps[4] ?? self.nodeIps[6]
  const mac = vxlanMac(self.internalIps)
  const list: LinkPlan[] = [{ kind: 'veth', name: HOST_DEVICE, peer: HOST_PEER_DEVICE, mtu: self.underlayMtu }]
  if (hasVxlan(snapshot) && local !== undefined && mac !== undefined) {
    list.push({
      kind: 'vxlan',
      name: VXLAN_DEVICE,
      mtu: vxlanMtu(snapshot),
      mac,
      vni: config.tunnel.vni,
      port: config.tunnel.port,
      local,
    })
  }
  for (const type of encryptionTypes(config).filter((each) => hasDevice(snapshot, each))) {
    const mtu = encryptionMtu(snapshot, type)
    list.push({ kind: 'given', name: ENCRYPTION_DEVICE[type], mtu, gsoMaxSize: gsoMaxSize(config) })
  }
  return list
}

/** The host's end; the pod's own is {@link podNetwork}'s. */
export function podLink(snapshot: Snapshot, endpoint: LocalEndpoint): LinkPlan {
  return { kind: 'given', name: endpoint.device, mtu: podDeviceMtu(snapshot), gsoMaxSize: gsoMaxSize(snapshot.config) }
}

/**
 * The encryption device carries the internal IP as well, so that kube-proxy's masquerading, which takes an address of the
 * device that a packet leaves by, finds one that peers accept and answer to by the same way (ADR 0004).
 */
export function addresses(snapshot: Snapshot): readonly AddressPlan[] {
  const devices = [
    HOST_DEVICE,
    ...(hasVxlan(snapshot) ? [VXLAN_DEVICE] : []),
    ...encryptionTypes(snapshot.config).flatMap((type) => (hasDevice(snapshot, type) ? ENCRYPTION_DEVICE[type] : [])),
  ]
  return devices.flatMap((device) =>
    FAMILIES.flatMap((family) => {
      const ip = snapshot.self.internalIps[family]
      return ip === undefined ? [] : [{ device, ip, length: FAMILY_BITS[family] }]
    }),
  )
}
