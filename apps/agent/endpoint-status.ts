import { familyOf } from '#core/ip/address.ts'
import type { EndpointStatus } from '#core/status/endpoint-status.ts'
import type { Endpoint } from './endpoints.ts'

/** What tools of Cilium's ask for with `cilium endpoint list -o json`. */
export function endpointStatus({
  containerId,
  ifname,
  device,
  mac,
  hostMac,
  ips,
  pod,
  ready,
}: Endpoint): EndpointStatus {
  const [namespace = '', name] = pod.split('/', 2)
  const four = ips.find(({ ip }) => familyOf(ip) === 4)?.ip
  const six = ips.find(({ ip }) => familyOf(ip) === 6)?.ip
  return {
    status: {
      state: ready ? 'ready' : 'not-ready',
      'external-identifiers': {
        'container-id': containerId,
        ...(name === undefined ? {} : { 'pod-name': pod, 'k8s-namespace': namespace, 'k8s-pod-name': name }),
      },
      networking: {
        addressing: [{ ...(four === undefined ? {} : { ipv4: four }), ...(six === undefined ? {} : { ipv6: six }) }],
        'interface-name': device,
        'container-interface-name': ifname,
        mac,
        'host-mac': hostMac,
      },
    },
  }
}
