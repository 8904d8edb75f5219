import { Reader } from '#core/bytes/reader.ts'
import type { Fault } from '#core/fault/fault.ts'
import { type Result, unwrap } from '#core/fault/result.ts'
import { type Attribute, malformed, readAttributes } from './attribute.ts'
import { guarded, type NetlinkMessage, type NetlinkRequest } from './message.ts'
import * as xfrm from './xfrm.ts'
import { decodePolicy, readPolicyBeside, type SeenXfrmPolicy } from './xfrm-policy.ts'
import { decodeState, readStateBeside, type SeenXfrmState } from './xfrm-state.ts'

/** What the kernel tells those who listen to {@link xfrm.XFRM_GROUPS}. */
export type XfrmEvent = {
  /** What the request that caused it gave as its own port: ours its socket's, iproute2 0, the kernel itself 0. */
  readonly port: number
} & (
  | { readonly of: 'state'; readonly gone: boolean; readonly value: SeenXfrmState }
  | { readonly of: 'policy'; readonly gone: boolean; readonly value: SeenXfrmPolicy }
  /** All of a protocol (255: of every one) were removed. */
  | { readonly of: 'states'; readonly gone: true; readonly protocol: number }
  | { readonly of: 'policies'; readonly gone: true }
  /** A limit of the state was reached; the hard one removes it. */
  | { readonly of: 'expiry'; readonly hard: boolean; readonly value: SeenXfrmState }
  /** A policy wanted a state that is not there: packets of that selector are dropped meanwhile. */
  | { readonly of: 'acquire'; readonly selector: xfrm.XfrmSelector }
)

const USERSA_ID_BYTES = 24
const USERPOLICY_ID_BYTES = 64

/** Undefined for what nobody here asks about. */
export function decodeXfrmEvent(message: NetlinkMessage): Result<XfrmEvent | undefined, Fault> {
  return guarded(() => {
    const { port } = message
    const reader = new Reader(message.body)
    switch (message.type) {
      case xfrm.XFRM_MSG_NEWSA:
      case xfrm.XFRM_MSG_UPDSA: {
        const value = unwrap(decodeState(message))
        return value && { port, of: 'state', gone: false, value }
      }
      case xfrm.XFRM_MSG_NEWPOLICY:
      case xfrm.XFRM_MSG_UPDPOLICY: {
        const value = unwrap(decodePolicy(message))
        return value && { port, of: 'policy', gone: false, value }
      }
      // of what is gone: its id, then the whole of it in an attribute, then its other attributes
      case xfrm.XFRM_MSG_DELSA: {
        reader.skip(USERSA_ID_BYTES)
        const attributes = readAttributes(reader)
        const value = readStateBeside(need(attributes, xfrm.XFRMA_SA), attributes)
        return value && { port, of: 'state', gone: true, value }
      }
      case xfrm.XFRM_MSG_DELPOLICY: {
        reader.skip(USERPOLICY_ID_BYTES)
        const attributes = readAttributes(reader)
        const value = readPolicyBeside(need(attributes, xfrm.XFRMA_POLICY), attributes)
        return value && { port, of: 'policy', gone: true, value }
      }
      case xfrm.XFRM_MSG_FLUSHSA:
        return { port, of: 'states', gone: true, protocol: reader.u8() }
      case xfrm.XFRM_MSG_FLUSHPOLICY:
        return { port, of: 'policies', gone: true }
      case xfrm.XFRM_MSG_EXPIRE:
        return readExpiry(reader, port)
      case xfrm.XFRM_MSG_ACQUIRE: {
        // struct xfrm_user_acquire: xfrm_id, source, selector, …
        reader.skip(24 + xfrm.XFRM_ADDRESS_BYTES)
        const selector = xfrm.readSelector(reader)
        return selector && { port, of: 'acquire', selector }
      }
      default:
        return undefined
    }
  })
}

function need(attributes: readonly Attribute[], type: number): Reader {
  const found = attributes.find((attribute) => attribute.type === type)
  if (found === undefined) throw malformed(`attribute ${type} is missing`, 0)
  return found.reader
}

/** struct xfrm_user_expire: xfrm_usersa_info (224 bytes), u8 hard, padding; then attributes. */
function readExpiry(reader: Reader, port: number): XfrmEvent | undefined {
  const info = new Reader(reader.take(224))
  const hard = reader.u8() !== 0
  reader.skip(7)
  const value = readStateBeside(info, readAttributes(reader))
  return value && { port, of: 'expiry', hard, value }
}

/** How many states there are. */
export function countStates(): NetlinkRequest {
  return { type: xfrm.XFRM_MSG_GETSADINFO, flags: 0, body: new Uint8Array(4).fill(255) }
}

/** Of XFRM_MSG_NEWSADINFO: u32 flags, then XFRMA_SAD_CNT. */
export function decodeStateCount(message: NetlinkMessage): Result<number | undefined, Fault> {
  return guarded(() => {
    if (message.type !== xfrm.XFRM_MSG_NEWSADINFO) return undefined
    const reader = new Reader(message.body)
    reader.skip(4)
    return need(readAttributes(reader), 1).u32le()
  })
}
