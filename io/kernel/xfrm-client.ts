import { Fault } from '#core/fault/fault.ts'
import { type Result, unwrap } from '#core/fault/result.ts'
import type { Ip } from '#core/ip/address.ts'
import type { NetlinkMessage, NetlinkRequest } from '#core/netlink/message.ts'
import { XFRM_MSG_NEWPOLICY, XFRM_MSG_NEWSA } from '#core/netlink/xfrm.ts'
import { countStates } from '#core/netlink/xfrm-event.ts'
import {
  decodePolicy,
  deletePolicy,
  dumpPolicies,
  newPolicy,
  type SeenXfrmPolicy,
  setPolicy,
  type XfrmPolicy,
  type XfrmPolicyId,
} from '#core/netlink/xfrm-policy.ts'
import {
  decodeState,
  deleteState,
  dumpStates,
  getState,
  newState,
  type SeenXfrmState,
  updateState,
  type XfrmState,
  type XfrmStateId,
} from '#core/netlink/xfrm-state.ts'
import { NetlinkSocket } from './netlink-socket.ts'

/** One change of states and policies. */
export type XfrmChange =
  | { readonly do: 'add state'; readonly state: XfrmState }
  | { readonly do: 'update state'; readonly state: XfrmState }
  | { readonly do: 'delete state'; readonly state: XfrmStateId & { readonly source: Ip } }
  | { readonly do: 'add policy'; readonly policy: XfrmPolicy }
  /** Makes it, or replaces the one of the same selector, direction and mark in one step. */
  | { readonly do: 'set policy'; readonly policy: XfrmPolicy }
  | { readonly do: 'delete policy'; readonly policy: XfrmPolicyId }

/**
 * States and policies of the network namespace that it was made in. The kernel answers within the call, so everything here
 * is synchronous.
 */
export class XfrmClient {
  readonly #socket: NetlinkSocket

  /** @throws Fault `kernel.eprotonosupport`: the kernel has no XFRM for programs (module xfrm_user) */
  constructor() {
    this.#socket = new NetlinkSocket({ protocol: 'xfrm' })
    // the port is known after the first answer
    this.#socket.request('ask for XFRM', countStates())
  }

  /** By which events name what was caused here. */
  get port(): number {
    return this.#socket.port
  }

  /** All states, anybody's; with their keys. */
  states(): SeenXfrmState[] {
    return this.#all('list XFRM states', dumpStates(), XFRM_MSG_NEWSA, decodeState)
  }

  /** One of them; undefined: it is not there. With its key. */
  state(id: XfrmStateId & { readonly source: Ip }): SeenXfrmState | undefined {
    try {
      for (const message of this.#socket.request(`look for the state from ${id.source}`, getState(id))) {
        const value = message.type === XFRM_MSG_NEWSA ? unwrap(decodeState(message)) : undefined
        message.body.fill(0)
        if (value !== undefined) return value
      }
      return undefined
    } catch (error) {
      if (error instanceof Fault && error.code === 'kernel.esrch') return undefined
      throw error
    }
  }

  /** All policies but those of single sockets, anybody's. */
  policies(): SeenXfrmPolicy[] {
    return this.#all('list XFRM policies', dumpPolicies(), XFRM_MSG_NEWPOLICY, decodePolicy)
  }

  /** @throws Fault `kernel.<errno>` with the kernel's own words */
  change(change: XfrmChange): void {
    const request = requestOf(change)
    try {
      this.#socket.request(describeXfrmChange(change), request)
    } finally {
      request.body.fill(0)
    }
  }

  /** In this order, many by one system call. Of each: undefined, or why not. */
  changeAll(changes: readonly XfrmChange[]): readonly (Fault | undefined)[] {
    const entries = changes.map((change) => ({ what: describeXfrmChange(change), request: requestOf(change) }))
    try {
      return this.#socket.batch(entries)
    } finally {
      for (const { request } of entries) request.body.fill(0)
    }
  }

  close(): void {
    this.#socket.close()
  }

  #all<T>(
    what: string,
    request: NetlinkRequest,
    type: number,
    decode: (message: NetlinkMessage) => Result<T | undefined, Fault>,
  ): T[] {
    const found: T[] = []
    for (const message of this.#socket.dump(what, request)) {
      if (message.type !== type) continue
      const value = unwrap(decode(message))
      message.body.fill(0)
      if (value !== undefined) found.push(value)
    }
    return found
  }
}

function requestOf(change: XfrmChange): NetlinkRequest {
  if (change.do === 'delete state') return deleteState(change.state)
  if (change.do === 'delete policy') return deletePolicy(change.policy)
  if ('state' in change) return change.do === 'add state' ? newState(change.state) : updateState(change.state)
  return change.do === 'add policy' ? newPolicy(change.policy) : setPolicy(change.policy)
}

/** For people; without keys. */
function describeXfrmChange(change: XfrmChange): string {
  if ('state' in change) {
    const { source, destination, spi } = change.state
    return `${change.do} ${source} → ${destination} spi 0x${spi.toString(16)}`
  }
  const { selector, direction } = change.policy
  return `${change.do} ${selector.source} → ${selector.destination} ${direction}`
}
