import { formatColumns } from './columns.ts'

/** A pod's attachment, as the agent's `GET /v1/endpoint` lists it: Cilium's Endpoint as far as its parts exist here. */
export interface EndpointStatus {
  readonly status: {
    readonly state: 'ready' | 'not-ready'
    readonly 'external-identifiers': {
      readonly 'container-id': string
      /** `namespace/name`; absent where the runtime said nothing. */
      readonly 'pod-name'?: string
      readonly 'k8s-namespace'?: string
      readonly 'k8s-pod-name'?: string
    }
    readonly networking: {
      readonly addressing: readonly { readonly ipv4?: string; readonly ipv6?: string }[]
      /** The host's end of the veth pair. */
      readonly 'interface-name': string
      readonly 'container-interface-name': string
      readonly mac: string
      readonly 'host-mac': string
    }
  }
}

/** `cilium-dbg endpoint list`: Cilium's columns that mean something here; nodes here give endpoints no numbers. */
export function formatEndpoints(endpoints: readonly EndpointStatus[]): string {
  const rows = endpoints.map(({ status: { state, networking, ...rest } }) => {
    const ids = rest['external-identifiers']
    const of = (family: 'ipv4' | 'ipv6') => networking.addressing.map((pair) => pair[family] ?? '').join('')
    return [ids['pod-name'] ?? ids['container-id'], networking['interface-name'], of('ipv6'), of('ipv4'), state]
  })
  return formatColumns([['ENDPOINT', 'INTERFACE', 'IPv6', 'IPv4', 'STATUS'], ...rows])
}
