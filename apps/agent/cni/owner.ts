import { parseIp } from '#core/ip/address.ts'
import { type Mac, parseMac } from '#core/ip/mac.ts'
import type { Endpoint } from '../endpoints.ts'

/**
 * A pod's attachment in one line, kept on its device: `CONTAINER/IFNAME MAC IP,GATEWAY IP,GATEWAY`. So a lost endpoints
 * file costs no running pod its network.
 */
export function formatOwner({ containerId, ifname, mac, ips }: Endpoint): string {
  return [`${containerId}/${ifname}`, mac, ...ips.map(({ ip, gateway }) => `${ip},${gateway}`)].join(' ')
}

/** Undefined when the line is not whole: an alias has room for 255 bytes. */
export function parseOwner(line: string, device: string, hostMac: Mac): Endpoint | undefined {
  const [name = '', macText = '', ...pairs] = line.split(' ')
  const [, containerId, ifname] = /^([^/\s]+)\/([^/\s]+)$/.exec(name) ?? []
  const mac = parseMac(macText)
  const ips = pairs.flatMap((pair) => {
    const [ip, gateway] = pair.split(',').map((text) => parseIp(text))
    return ip === undefined || gateway === undefined ? [] : [{ ip, gateway }]
  })
  if (containerId === undefined || ifname === undefined || mac === undefined) return undefined
  if (ips.length === 0 || ips.length !== pairs.length) return undefined
  // the path of its namespace is the runtime's to say again; without the device the namespace is gone as well
  return { containerId, ifname, device, mac, hostMac, netns: '', ips, pod: '', ready: true }
}
