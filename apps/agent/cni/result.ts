import { FAMILY_BITS, familyOf } from '#core/ip/address.ts'
import type { Endpoint } from '../endpoints.ts'

/**
 * The answer to ADD in the version that was asked for. 0.3.1 and 0.4.0 name the family of each address; from 1.0.0 on
 * they do not; 1.1.0 adds the MTU of interfaces and routes.
 */
export function addResult(endpoint: Endpoint, netns: string, mtu: number, cniVersion: string): Record<string, unknown> {
  const old = cniVersion.startsWith('0.')
  const withMtu = cniVersion === '1.1.0' ? { mtu } : {}
  return {
    cniVersion,
    interfaces: [
      { name: endpoint.device, mac: endpoint.hostMac, ...withMtu },
      { name: endpoint.ifname, mac: endpoint.mac, ...withMtu, sandbox: netns },
    ],
    ips: endpoint.ips.map(({ ip, gateway }) => ({
      ...(old ? { version: String(familyOf(ip)) } : {}),
      address: `${ip}/${FAMILY_BITS[familyOf(ip)]}`,
      gateway,
      interface: 1,
    })),
    routes: endpoint.ips.map(({ ip, gateway }) => ({
      dst: familyOf(ip) === 4 ? '0.0.0.0/0' : '::/0',
      gw: gateway,
      ...withMtu,
    })),
    dns: {},
  }
}
