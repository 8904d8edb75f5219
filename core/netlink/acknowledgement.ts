import { Reader } from '#core/bytes/reader.ts'
import type { Fault } from '#core/fault/fault.ts'
import type { Result } from '#core/fault/result.ts'
import { readAttributes, readText, readU32 } from './attribute.ts'
import { guarded, HEADER_BYTES, type NetlinkMessage, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE } from './message.ts'

const NLMSGERR_ATTR_MSG = 1
const NLMSGERR_ATTR_OFFS = 2

/** What the kernel answers at the end (NLMSG_ERROR, or NLMSG_DONE of a dump), extended attributes included. */
export interface Acknowledgement {
  /** 0 is success, else a positive errno. */
  readonly errno: number
  /** The kernel's own sentence ("extended ACK"). May stand beside success: then it is a warning. */
  readonly text?: string
  /** Offset of the attribute that was refused, in the request (header included). */
  readonly badOffset?: number
}

/** struct nlmsgerr: i32 -errno, the request's header (and, unless capped, its body), then attributes. */
export function decodeAcknowledgement(message: NetlinkMessage): Result<Acknowledgement, Fault> {
  return guarded(() => {
    const reader = new Reader(message.body)
    // an old kernel ends a dump without a number
    if (message.type === NLMSG_DONE && reader.remaining < 4) return { errno: 0 }
    // no subtraction: -0 would not equal 0
    const errno = Math.abs(reader.i32le())
    if ((message.flags & NLM_F_ACK_TLVS) === 0) return { errno }
    if (message.type !== NLMSG_DONE) {
      const requestLength = reader.u32le()
      reader.skip(HEADER_BYTES - 4)
      const capped = (message.flags & NLM_F_CAPPED) !== 0 || errno === 0
      if (!capped) reader.skip(Math.max(0, Math.ceil(requestLength / 4) * 4 - HEADER_BYTES))
    }
    let text: string | undefined
    let badOffset: number | undefined
    for (const attribute of readAttributes(reader)) {
      if (attribute.type === NLMSGERR_ATTR_MSG) text = readText(attribute)
      else if (attribute.type === NLMSGERR_ATTR_OFFS) badOffset = readU32(attribute)
    }
    return { errno, ...(text === undefined ? {} : { text }), ...(badOffset === undefined ? {} : { badOffset }) }
  })
}
