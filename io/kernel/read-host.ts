import { unwrap } from '#core/fault/result.ts'
import type { ActualFdb, ActualLink, ActualRoute, ActualRule, HostActual } from '#core/host/host-actual.ts'
import { type AddressPlan, type HostPlan, type NeighbourPlan, OUR_PROTOCOL } from '#core/host/host-plan.ts'
import type { Family } from '#core/ip/address.ts'
import { decodeAddress, dumpAddresses } from '#core/netlink/address.ts'
import { ADDR_GEN_MODE_NONE, type Link } from '#core/netlink/link.ts'
import { kindName } from '#core/netlink/link-kind.ts'
import { decodeNeighbour, dumpForwardingEntries, dumpNeighbours } from '#core/netlink/neighbour.ts'
import { decodeRoute, dumpRoutes } from '#core/netlink/route.ts'
import { decodeRule, dumpRules } from '#core/netlink/rule.ts'
import { listLinks } from './link-table.ts'
import type { NetlinkSocket } from './netlink-socket.ts'
import type { NftTables } from './nft-tables.ts'
import { readSysctl } from './sysctl.ts'

const FAMILIES: readonly Family[] = [4, 6]

/** What is there now, as far as `plan` and our own marks (protocol, alias, table names) reach. */
export function readHost(socket: NetlinkSocket, tables: NftTables, plan: HostPlan): HostActual {
  const links = listLinks(socket)
  const names = new Map(links.map((link) => [link.index, link.name]))
  return {
    links: links.map((link) => actualLink(link, names)),
    addresses: readAddresses(socket, names),
    routes: readRoutes(socket, names),
    rules: readRules(socket),
    neighbours: readNeighbours(socket, names),
    fdb: links.filter((link) => link.kind.kind === 'vxlan').flatMap((link) => readFdb(socket, link)),
    tables: tables.list(plan.tables),
    sysctls: plan.sysctls.flatMap(({ path }) => {
      const value = readSysctl(path)
      return value === undefined ? [] : [{ path, value }]
    }),
  }
}

function actualLink(link: Link, names: ReadonlyMap<number, string>): ActualLink {
  const { kind } = link
  // another namespace's index would mean something else here
  const peer =
    kind.kind === 'veth' && link.peerIndex !== undefined && link.peerNamespaceId === undefined
      ? names.get(link.peerIndex)
      : undefined
  return {
    name: link.name,
    kind: kindName(kind),
    up: link.up,
    mtu: link.mtu ?? 0,
    ...(link.mac === undefined ? {} : { mac: link.mac }),
    ...(link.gsoMaxSize === undefined ? {} : { gsoMaxSize: link.gsoMaxSize }),
    ...(link.alias === undefined ? {} : { alias: link.alias }),
    ...(link.addrGenMode === undefined ? {} : { silent: link.addrGenMode === ADDR_GEN_MODE_NONE }),
    ...(peer === undefined ? {} : { peer }),
    ...(kind.kind === 'vxlan'
      ? {
          vxlan: {
            vni: kind.vni,
            port: kind.port,
            learning: kind.learning,
            ...(kind.local === undefined ? {} : { local: kind.local }),
          },
        }
      : {}),
  }
}

function readAddresses(socket: NetlinkSocket, names: ReadonlyMap<number, string>): AddressPlan[] {
  return socket.dump('list addresses', dumpAddresses()).flatMap((message) => {
    const address = unwrap(decodeAddress(message))
    const device = address === undefined ? undefined : names.get(address.index)
    if (address === undefined || device === undefined || address.scope === 'link') return []
    return [{ device, ip: address.ip, length: address.length }]
  })
}

function readRoutes(socket: NetlinkSocket, names: ReadonlyMap<number, string>): ActualRoute[] {
  return FAMILIES.flatMap((family) =>
    socket.dump(`list IPv${family} routes`, dumpRoutes(family, OUR_PROTOCOL)).flatMap((message) => {
      const route = unwrap(decodeRoute(message))
      if (route === undefined || route.protocol !== OUR_PROTOCOL || route.cloned) return []
      const { table, destination, type, index, via, onlink, source, metric, mtu, complex, tos } = route
      const closing = type === 'blackhole' || type === 'unreachable'
      // IPv6 hangs closing routes on lo
      const device = index === undefined || closing ? undefined : names.get(index)
      return [
        {
          table,
          destination,
          type: complex || tos !== 0 ? 'other' : (type ?? 'other'),
          ...(device === undefined ? {} : { device }),
          ...(via === undefined ? {} : { via }),
          ...(onlink === undefined ? {} : { onlink }),
          ...(source === undefined ? {} : { source }),
          metric,
          ...(mtu === undefined ? {} : { mtu }),
        } satisfies ActualRoute,
      ]
    }),
  )
}

function readRules(socket: NetlinkSocket): ActualRule[] {
  return FAMILIES.flatMap((family) =>
    socket.dump(`list IPv${family} rules`, dumpRules(family)).flatMap((message) => {
      const rule = unwrap(decodeRule(message))
      if (rule === undefined || rule.protocol !== OUR_PROTOCOL) return []
      const { complex, protocol: _ours, ...own } = rule
      return [{ ...own, foreign: complex }]
    }),
  )
}

function readNeighbours(socket: NetlinkSocket, names: ReadonlyMap<number, string>): NeighbourPlan[] {
  return socket.dump('list neighbours', dumpNeighbours()).flatMap((message) => {
    const seen = unwrap(decodeNeighbour(message))
    if (seen?.of !== 'neighbour') return []
    const { index, ip, mac, protocol, permanent } = seen.value
    const device = names.get(index)
    if (protocol !== OUR_PROTOCOL || !permanent || mac === undefined || device === undefined) return []
    return [{ device, ip, mac }]
  })
}

function readFdb(socket: NetlinkSocket, link: Link): ActualFdb[] {
  const what = `list forwarding entries of ${link.name}`
  return socket.dump(what, dumpForwardingEntries(link.index)).flatMap((message) => {
    const seen = unwrap(decodeNeighbour(message))
    if (seen?.of !== 'fdb' || seen.value.index !== link.index) return []
    const { mac, destination } = seen.value
    return [{ device: link.name, mac, ...(destination === undefined ? {} : { destination }) }]
  })
}
