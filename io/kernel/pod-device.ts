import { Fault } from '#core/fault/fault.ts'
import { unwrap } from '#core/fault/result.ts'
import { OUR_PROTOCOL } from '#core/host/host-plan.ts'
import type { Family, Ip } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import type { Mac } from '#core/ip/mac.ts'
import { decodeAddress, dumpAddresses, newAddress } from '#core/netlink/address.ts'
import { ADDR_GEN_MODE_NONE, deleteLink, type Link, newLink, setLink } from '#core/netlink/link.ts'
import { decodeNeighbour, dumpNeighbours, setNeighbour } from '#core/netlink/neighbour.ts'
import { decodeRoute, dumpRoutes, newRoute, type SeenRoute } from '#core/netlink/route.ts'
import { RT_TABLE_MAIN } from '#core/netlink/rtnetlink.ts'
import { close } from '#io/sys/libc.ts'
import { findLink, listLinks, requireLink } from './link-table.ts'
import { NetlinkSocket } from './netlink-socket.ts'
import { inNamespaceOf, inNetworkNamespace, openNamespace } from './network-namespace.ts'

/** A pod's own end of its veth pair and everything inside its namespace. The host's routes are the plan's. */
export interface PodDeviceSpec {
  /** Path of the pod's network namespace, e.g. `/var/run/netns/cni-…`. */
  readonly namespace: string
  /** Whose it is, kept on the device itself for {@link describePodDevices}: at most 240 bytes. */
  readonly owner?: string
  /** In the host's namespace, `lxc…`. */
  readonly hostName: string
  readonly hostMac: Mac
  /** In the pod, `eth0`. */
  readonly podName: string
  readonly podMac: Mac
  readonly mtu: number
  /** Bytes (ADR 0004). */
  readonly gsoMaxSize?: number
  readonly addresses: readonly { readonly ip: Ip; readonly length: number }[]
  /** In the order to add: what reaches a gateway before what goes through it. */
  readonly routes: readonly PodRoute[]
  /** Permanent: the pod never has to ask who its gateway is. */
  readonly neighbours: readonly { readonly ip: Ip; readonly mac: Mac }[]
}

export interface PodRoute {
  readonly destination: Cidr
  readonly via?: Ip
  readonly source?: Ip
  readonly mtu?: number
}

/** What is there, in the words of the spec; of routes those of the main table through this device. */
export interface PodDeviceState extends Omit<PodDeviceSpec, 'namespace' | 'owner' | 'hostName' | 'hostMac'> {
  /** Undefined: the other end is not in this namespace. */
  readonly hostName: string | undefined
  readonly hostMac: Mac | undefined
  readonly up: boolean
}

/** Of routes that the kernel makes of addresses. */
const RTPROT_KERNEL = 2
/** Begins the alias of the host's ends, so that they are found again after a restart. */
const POD_LINK_ALIAS = 'pellicle-pod'

/**
 * Makes the pair, with its far end at once under its own name in the pod's namespace, and sets it up. On failure
 * nothing is left.
 *
 * @throws Fault `kernel.netns.missing`, `pod.device.exists`, `kernel.*`
 */
export function addPodDevice(host: NetlinkSocket, spec: PodDeviceSpec): void {
  const target = openNamespace(spec.namespace)
  try {
    makePair(host, spec, target)
    try {
      const pod = inNamespaceOf(target, spec.namespace, () => new NetlinkSocket())
      try {
        setUpInside(pod, spec)
      } finally {
        pod.close()
      }
      const { index } = requireLink(host, spec.hostName)
      silence(host, index, spec.hostName)
      host.request(
        `bring up ${spec.hostName}`,
        setLink(index, { up: true, alias: `${POD_LINK_ALIAS} ${spec.owner ?? ''}`.slice(0, 255).trim() }),
      )
    } catch (error) {
      removePodDevice(host, spec.hostName)
      throw error
    }
  } finally {
    close(target)
  }
}

/** By the host's end; the other goes with it. False when there was none. */
export function removePodDevice(host: NetlinkSocket, hostName: string): boolean {
  const link = findLink(host, hostName)
  if (link === undefined) return false
  try {
    host.request(`delete link ${hostName}`, deleteLink(link.index))
    return true
  } catch (error) {
    // its namespace went at the same moment
    if (error instanceof Fault && error.code === 'kernel.enodev') return false
    throw error
  }
}

/** Names of the host's ends that {@link addPodDevice} made. */
export function listPodDevices(host: NetlinkSocket): string[] {
  return listLinks(host)
    .filter(isPodDevice)
    .map((link) => link.name)
}

/** The host's ends with what they carry; `owner` is empty on those of an earlier release. */
export function describePodDevices(
  host: NetlinkSocket,
): readonly { readonly hostName: string; readonly hostMac: Mac | undefined; readonly owner: string }[] {
  return listLinks(host)
    .filter(isPodDevice)
    .map(({ name, mac, alias = '' }) => ({
      hostName: name,
      hostMac: mac,
      owner: alias.slice(POD_LINK_ALIAS.length).trim(),
    }))
}

function isPodDevice({ alias }: Link): boolean {
  return alias === POD_LINK_ALIAS || alias?.startsWith(`${POD_LINK_ALIAS} `) === true
}

/** Undefined when the namespace or the device in it is gone. */
export function readPodDevice(host: NetlinkSocket, namespace: string, podName: string): PodDeviceState | undefined {
  let pod: NetlinkSocket
  try {
    pod = inNetworkNamespace(namespace, () => new NetlinkSocket())
  } catch (error) {
    if (error instanceof Fault && error.code === 'kernel.netns.missing') return undefined
    throw error
  }
  try {
    const link = findLink(pod, podName)
    if (link === undefined) return undefined
    const far = listLinks(host).find(({ index, peerIndex }) => index === link.peerIndex && peerIndex === link.index)
    return {
      podName,
      hostName: far?.name,
      hostMac: far?.mac,
      podMac: link.mac ?? ('' as Mac),
      mtu: link.mtu ?? 0,
      up: link.up,
      ...(link.gsoMaxSize === undefined ? {} : { gsoMaxSize: link.gsoMaxSize }),
      addresses: readAddresses(pod, link),
      routes: ([4, 6] as const).flatMap((family) => readRoutes(pod, family, link)),
      neighbours: readNeighbours(pod, link),
    }
  } finally {
    pod.close()
  }
}

function makePair(host: NetlinkSocket, spec: PodDeviceSpec, target: number): void {
  const { hostName, podName, mtu, hostMac, podMac, gsoMaxSize } = spec
  const common = { mtu, ...(gsoMaxSize === undefined ? {} : { gsoMaxSize }) }
  const peer = { ...common, name: podName, mac: podMac, namespace: { fd: target } }
  try {
    host.request(
      `add the veth pair ${hostName} – ${podName}`,
      newLink({ ...common, kind: 'veth', name: hostName, mac: hostMac, peer }),
    )
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'kernel.eexist') throw error
    throw new Fault('pod.device.exists', `${hostName} exists here, or ${podName} in ${spec.namespace}`, {
      field: hostName,
      remedy: 'Delete it first (CNI DEL)',
      cause: error,
    })
  }
}

function setUpInside(pod: NetlinkSocket, spec: PodDeviceSpec): void {
  const lo = requireLink(pod, 'lo')
  if (!lo.up) pod.request('bring up lo in the pod', setLink(lo.index, { up: true }))
  const { index } = requireLink(pod, spec.podName)
  silence(pod, index, spec.podName)
  pod.request(`bring up ${spec.podName} in the pod`, setLink(index, { up: true }))
  for (const { ip, length } of spec.addresses) {
    pod.request(`add address ${ip}/${length} in the pod`, newAddress({ index, ip, length }))
  }
  for (const { ip, mac } of spec.neighbours) {
    pod.request(`add neighbour ${ip} in the pod`, setNeighbour({ index, ip, mac, protocol: OUR_PROTOCOL }))
  }
  for (const route of spec.routes) {
    const { destination, via } = route
    pod.request(
      `add route ${destination}${via === undefined ? '' : ` via ${via}`} in the pod`,
      newRoute({ ...route, type: 'unicast', table: RT_TABLE_MAIN, index, metric: 0, protocol: OUR_PROTOCOL }, 'create'),
    )
  }
}

/** No traffic of the device's own (ADR 0004). Must come before it is up. */
function silence(socket: NetlinkSocket, index: number, name: string): void {
  try {
    socket.request(`silence ${name}`, setLink(index, { addrGenMode: ADDR_GEN_MODE_NONE }))
  } catch (error) {
    // no IPv6 here: it is silent
    if (!(error instanceof Fault) || error.code !== 'kernel.eafnosupport') throw error
  }
}

function readAddresses(pod: NetlinkSocket, link: Link): PodDeviceState['addresses'] {
  return pod.dump('list the addresses in the pod', dumpAddresses(link.index)).flatMap((message) => {
    const address = unwrap(decodeAddress(message))
    if (address === undefined || address.index !== link.index || address.scope === 'link') return []
    return [{ ip: address.ip, length: address.length }]
  })
}

function readRoutes(pod: NetlinkSocket, family: Family, link: Link): PodRoute[] {
  const isHere = (route: SeenRoute) =>
    route.table === RT_TABLE_MAIN && route.index === link.index && !route.cloned && route.protocol !== RTPROT_KERNEL
  return pod.dump(`list the IPv${family} routes in the pod`, dumpRoutes(family)).flatMap((message) => {
    const route = unwrap(decodeRoute(message))
    if (route === undefined || !isHere(route) || route.type !== 'unicast') return []
    const { destination, via, source, mtu } = route
    return [
      {
        destination,
        ...(via === undefined ? {} : { via }),
        ...(source === undefined ? {} : { source }),
        ...(mtu === undefined ? {} : { mtu }),
      },
    ]
  })
}

function readNeighbours(pod: NetlinkSocket, link: Link): PodDeviceState['neighbours'] {
  return pod.dump('list the neighbours in the pod', dumpNeighbours()).flatMap((message) => {
    const seen = unwrap(decodeNeighbour(message))
    if (seen?.of !== 'neighbour' || seen.value.index !== link.index || !seen.value.permanent) return []
    const { ip, mac } = seen.value
    return mac === undefined ? [] : [{ ip, mac }]
  })
}
