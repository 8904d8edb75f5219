import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import type { Fault } from '#core/fault/fault.ts'
import type { Result } from '#core/fault/result.ts'
import { FAMILY_BITS, type Family, familyOf, type Ip, ipFromValue, ipToBytes } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, cidrOf, lengthOf, networkOf } from '#core/ip/cidr.ts'
import { AttributeWriter, readAttributes, readU32 } from './attribute.ts'
import {
  guarded,
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
} from './message.ts'
import {
  AF_UNSPEC,
  afOf,
  checkPrefixLength,
  familyOfAf,
  RT_TABLE_MAIN,
  RTM_DELROUTE,
  RTM_GETROUTE,
  RTM_NEWROUTE,
  readIpOf,
} from './rtnetlink.ts'

/** include/uapi/linux/rtnetlink.h */
const RTA_DST = 1
const RTA_OIF = 4
const RTA_GATEWAY = 5
const RTA_PRIORITY = 6
const RTA_PREFSRC = 7
const RTA_METRICS = 8
const RTA_MULTIPATH = 9
const RTA_TABLE = 15
const RTA_MARK = 16
const RTA_VIA = 18
const RTAX_MTU = 2
const RTNH_F_ONLINK = 4
/** A copy that the kernel made of another route. */
const RTM_F_CLONED = 0x200

const TYPES = { unicast: 1, local: 2, blackhole: 6, unreachable: 7 } as const
export type RouteType = keyof typeof TYPES
const TYPE_NAMES = new Map<number, RouteType>(
  (Object.entries(TYPES) as [RouteType, number][]).map(([name, number]) => [number, name]),
)

const SCOPE_UNIVERSE = 0
const SCOPE_LINK = 253
const SCOPE_HOST = 254

export interface Route {
  readonly table: number
  readonly destination: Cidr
  readonly type: RouteType
  /** Index of the device. */
  readonly index?: number
  readonly via?: Ip
  readonly onlink?: true
  /** Preferred source address. */
  readonly source?: Ip
  readonly metric: number
  readonly mtu?: number
  /** Who made it (/etc/iproute2/rt_protos). */
  readonly protocol: number
}

export interface SeenRoute extends Omit<Route, 'type'> {
  /** Undefined: a type that we never make. */
  readonly type: RouteType | undefined
  readonly tos: number
  /** Several next hops, or one of another family: not ours, whatever its protocol says. */
  readonly complex: boolean
  readonly cloned: boolean
}

/** `create` fails with EEXIST when a route of that table, destination and metric is there; `replace` takes its place. */
export function newRoute(route: Route, how: 'create' | 'replace'): NetlinkRequest {
  const flags = NLM_F_CREATE | (how === 'create' ? NLM_F_EXCL : NLM_F_REPLACE)
  return { type: RTM_NEWROUTE, flags, body: encode(route, TYPES[route.type], scopeOf(route)) }
}

/** Only a route of that protocol, whatever else has the same table, destination and metric. */
export function deleteRoute(route: Route): NetlinkRequest {
  // any type, and RT_SCOPE_NOWHERE matches every scope
  return { type: RTM_DELROUTE, flags: 0, body: encode(route, 0, 255) }
}

/** With strict checking on the socket, the kernel filters by protocol. */
export function dumpRoutes(family: Family, protocol = 0): NetlinkRequest {
  const writer = new Writer().u8(afOf(family)).zeros(3).u8(0).u8(protocol).zeros(2).u32le(0)
  return { type: RTM_GETROUTE, flags: NLM_F_DUMP, body: writer.finish() }
}

/**
 * Which route a packet with that firewall mark would take to `destination`; answered by one RTM_NEWROUTE. Its `mtu` is what
 * the kernel has been told of the whole way (ICMP), or what the route says.
 */
export function askRoute(destination: Ip, mark: number): NetlinkRequest {
  const family = familyOf(destination)
  const writer = new Writer().u8(afOf(family)).u8(FAMILY_BITS[family]).zeros(10)
  const to = new AttributeWriter(writer).bytes(RTA_DST, ipToBytes(destination)).u32(RTA_MARK, mark)
  return { type: RTM_GETROUTE, flags: 0, body: to.finish() }
}

function scopeOf(route: Route): number {
  if (cidrFamily(route.destination) === 6) return SCOPE_UNIVERSE
  if (route.type === 'local') return SCOPE_HOST
  return route.type === 'unicast' && route.via === undefined ? SCOPE_LINK : SCOPE_UNIVERSE
}

/** struct rtmsg: u8 family, dst_len, src_len, tos, table, protocol, scope, type, u32 flags. */
function encode(route: Route, type: number, scope: number): Uint8Array<ArrayBuffer> {
  const writer = new Writer()
    .u8(afOf(cidrFamily(route.destination)))
    .u8(lengthOf(route.destination))
    .u8(0)
    .u8(0)
    .u8(route.table < 256 ? route.table : AF_UNSPEC)
    .u8(route.protocol)
    .u8(scope)
    .u8(type)
    .u32le(route.onlink === true ? RTNH_F_ONLINK : 0)
  const to = new AttributeWriter(writer)
  if (lengthOf(route.destination) > 0) to.bytes(RTA_DST, ipToBytes(networkOf(route.destination)))
  if (route.table > 255) to.u32(RTA_TABLE, route.table)
  if (route.via !== undefined) to.bytes(RTA_GATEWAY, ipToBytes(route.via))
  if (route.index !== undefined) to.u32(RTA_OIF, route.index)
  if (route.source !== undefined) to.bytes(RTA_PREFSRC, ipToBytes(route.source))
  if (route.metric !== 0) to.u32(RTA_PRIORITY, route.metric)
  const { mtu } = route
  if (mtu !== undefined) to.nested(RTA_METRICS, (metrics) => metrics.u32(RTAX_MTU, mtu))
  return to.finish()
}

/** Of RTM_NEWROUTE and RTM_DELROUTE; undefined for a family that is not IP. */
export function decodeRoute(message: NetlinkMessage): Result<SeenRoute | undefined, Fault> {
  return guarded(() => {
    const reader = new Reader(message.body)
    const family = familyOfAf(reader.u8())
    const length = reader.u8()
    reader.skip(1)
    const tos = reader.u8()
    let table = reader.u8()
    const protocol = reader.u8()
    reader.skip(1)
    const type = TYPE_NAMES.get(reader.u8())
    const flags = reader.u32le()
    if (family === undefined) return undefined
    checkPrefixLength(family, length, 1)
    const route: { -readonly [K in keyof SeenRoute]?: SeenRoute[K] } = {}
    let network = ipFromValue(family, 0n)
    let metric = 0
    let complex = false
    for (const attribute of readAttributes(reader)) {
      switch (attribute.type) {
        case RTA_DST:
          network = readIpOf(family, attribute)
          break
        case RTA_TABLE:
          table = readU32(attribute)
          break
        case RTA_OIF:
          route.index = readU32(attribute)
          break
        case RTA_GATEWAY:
          route.via = readIpOf(family, attribute)
          break
        case RTA_PREFSRC:
          route.source = readIpOf(family, attribute)
          break
        case RTA_PRIORITY:
          metric = readU32(attribute)
          break
        case RTA_MULTIPATH:
        case RTA_VIA:
          complex = true
          break
        case RTA_METRICS:
          for (const one of readAttributes(attribute.reader)) if (one.type === RTAX_MTU) route.mtu = readU32(one)
          break
      }
    }
    if ((flags & RTNH_F_ONLINK) !== 0) route.onlink = true
    return {
      ...route,
      table: table === 0 ? RT_TABLE_MAIN : table,
      destination: cidrOf(network, length),
      type,
      metric,
      protocol,
      tos,
      complex,
      cloned: (flags & RTM_F_CLONED) !== 0,
    }
  })
}
