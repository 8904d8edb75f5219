import type { Fault } from '#core/fault/fault.ts'
import { fail, ok, type Result } from '#core/fault/result.ts'
import { type Address, decodeAddress } from './address.ts'
import { decodeLink, type Link } from './link.ts'
import type { NetlinkMessage } from './message.ts'
import { decodeNeighbour, type SeenForwardingEntry, type SeenNeighbour } from './neighbour.ts'
import { decodeRoute, type SeenRoute } from './route.ts'
import {
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_DELROUTE,
  RTM_DELRULE,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  RTM_NEWROUTE,
  RTM_NEWRULE,
} from './rtnetlink.ts'
import { decodeRule, type SeenRule } from './rule.ts'

/** What the kernel tells everybody who listens. */
export type KernelEvent = {
  /** Deleted; else made or changed. */
  readonly gone: boolean
  /** Netlink port of the socket that caused it; 0: the kernel itself. */
  readonly port: number
} & (
  | { readonly of: 'link'; readonly value: Link }
  | { readonly of: 'address'; readonly value: Address }
  | { readonly of: 'route'; readonly value: SeenRoute }
  | { readonly of: 'rule'; readonly value: SeenRule }
  | { readonly of: 'neighbour'; readonly value: SeenNeighbour }
  | { readonly of: 'fdb'; readonly value: SeenForwardingEntry }
)

/** Of an rtnetlink multicast message; undefined for what nobody here asks about. */
export function decodeEvent(message: NetlinkMessage): Result<KernelEvent | undefined, Fault> {
  const common = { port: message.port }
  switch (message.type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return tag('link', decodeLink(message), message.type === RTM_DELLINK)
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return tag('address', decodeAddress(message), message.type === RTM_DELADDR)
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return tag('route', decodeRoute(message), message.type === RTM_DELROUTE)
    case RTM_NEWRULE:
    case RTM_DELRULE:
      return tag('rule', decodeRule(message), message.type === RTM_DELRULE)
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH: {
      const seen = decodeNeighbour(message)
      if (!seen.ok || seen.value === undefined) return seen.ok ? ok(undefined) : seen
      return ok({ ...seen.value, ...common, gone: message.type === RTM_DELNEIGH })
    }
    default:
      return ok(undefined)
  }

  function tag<K extends 'link' | 'address' | 'route' | 'rule'>(
    of: K,
    decoded: Result<Extract<KernelEvent, { of: K }>['value'] | undefined, Fault>,
    gone: boolean,
  ): Result<KernelEvent | undefined, Fault> {
    if (!decoded.ok) return fail(decoded.error)
    return ok(decoded.value === undefined ? undefined : ({ ...common, of, gone, value: decoded.value } as KernelEvent))
  }
}
