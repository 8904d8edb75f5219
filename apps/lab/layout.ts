import { lengthOf, overlaps, parseCidr } from '#core/ip/cidr.ts'

// What a lab consists of, from its options alone: names and addresses as kind and kubeadm choose them.

export type IpFamily = 'ipv4' | 'ipv6' | 'dual'

export interface LabOptions {
  readonly name: string
  /** Nodes in all, the control plane's among them. */
  readonly nodes: number
  readonly family: IpFamily
  /** The network that the nodes share: N of 172.N.0.0/16 up to 31, of 10.N.0.0/16 above. */
  readonly underlay: number
}

export interface LabLayout extends LabOptions {
  readonly nodeList: readonly LabNode[]
  /** Networks of this family's protocols, IPv4 first. */
  readonly underlayNetworks: readonly UnderlayNetwork[]
  readonly podCidrs: readonly string[]
  readonly serviceCidrs: readonly string[]
  /** First address of the Services: the API server as pods see it. */
  readonly apiServiceAddresses: readonly string[]
  readonly dnsAddresses: readonly string[]
}

interface UnderlayNetwork {
  readonly cidr: string
  readonly prefix: number
  readonly gateway: string
}

export interface LabNode {
  readonly name: string
  readonly index: number
  readonly controlPlane: boolean
  /** On eth0, IPv4 first. */
  readonly addresses: readonly string[]
  readonly podCidrs: readonly string[]
}

export const DEFAULT_LAB = 'kind'
/** More would need other node CIDR sizes; two cores carry about ten. */
export const MAX_NODES = 64

export function layOut(options: LabOptions): LabLayout {
  const { family, underlay, nodes, name } = options
  const v4 = family !== 'ipv6'
  const v6 = family !== 'ipv4'
  const start = underlayStart(underlay)
  const pick = (four: string, six: string): string[] => [...(v4 ? [four] : []), ...(v6 ? [six] : [])]
  return {
    ...options,
    nodeList: Array.from({ length: nodes }, (_, index) => ({
      name: nodeName(name, index),
      index,
      controlPlane: index === 0,
      addresses: pick(`${start}.0.${index + 2}`, `fd00:172:${underlay}::${(index + 2).toString(16)}`),
      podCidrs: pick(
        `10.244.${index}.0/24`,
        index === 0 ? 'fd00:10:244::/64' : `fd00:10:244:${index.toString(16)}::/64`,
      ),
    })),
    underlayNetworks: [
      ...(v4 ? [{ cidr: `${start}.0.0/16`, prefix: 16, gateway: `${start}.0.1` }] : []),
      ...(v6 ? [{ cidr: `fd00:172:${underlay}::/64`, prefix: 64, gateway: `fd00:172:${underlay}::1` }] : []),
    ],
    podCidrs: pick('10.244.0.0/16', 'fd00:10:244::/56'),
    serviceCidrs: pick('10.96.0.0/16', 'fd00:10:96::/112'),
    apiServiceAddresses: pick('10.96.0.1', 'fd00:10:96::1'),
    dnsAddresses: pick('10.96.0.10', 'fd00:10:96::a'),
  }
}

/** kind's names: NAME-control-plane, NAME-worker, NAME-worker2, … */
function nodeName(lab: string, index: number): string {
  if (index === 0) return `${lab}-control-plane`
  return `${lab}-worker${index === 1 ? '' : index}`
}

/** The URL of the API server as nodes reach it. */
export function apiServerUrl(layout: LabLayout): string {
  return `https://${bracketed(layout.nodeList[0]?.addresses[0] ?? '')}:6443`
}

function bracketed(address: string): string {
  return address.includes(':') ? `[${address}]` : address
}

function underlayStart(underlay: number): string {
  return `${underlay < 32 ? 172 : 10}.${underlay}`
}

/** Docker's networks begin with 172.17; those of 10 are for machines with a route to all of 172.16.0.0/12. */
const UNDERLAYS = [...range(18, 32), ...range(200, 220)]

function range(from: number, end: number): number[] {
  return Array.from({ length: end - from }, (_, index) => from + index)
}

/** The first underlay that no route or gateway of the machine (lines of `ip -4 route`) reaches into or covers. */
export function freeUnderlay(routes: string): number | undefined {
  const taken = Array.from(routes.matchAll(/\b(\d+\.\d+\.\d+\.\d+)(\/\d+)?/g), ([, address, length = '/32']) =>
    parseCidr(`${address}${length}`),
  )
    .filter((route) => route !== undefined)
    // a VPN's 0.0.0.0/1 and 128.0.0.0/1 are a default route in two parts
    .filter((route) => lengthOf(route) >= 8)
  return UNDERLAYS.find((underlay) => {
    const network = parseCidr(`${underlayStart(underlay)}.0.0/16`)
    return network !== undefined && !taken.some((route) => overlaps(route, network))
  })
}
