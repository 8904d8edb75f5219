import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import { Fault } from '#core/fault/fault.ts'
import { fail, ok, type Result } from '#core/fault/result.ts'
import { malformed } from './attribute.ts'

/** Framing of netlink messages (include/uapi/linux/netlink.h, struct nlmsghdr: 16 bytes, little endian). */
export const HEADER_BYTES = 16

/** Types below 16 mean the same in every family. */
export const NLMSG_NOOP = 1
export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3
export const NLMSG_OVERRUN = 4

export const NLM_F_REQUEST = 0x1
export const NLM_F_MULTI = 0x2
export const NLM_F_ACK = 0x4
/** The dump changed while it was read: it must be read again. */
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_DUMP = 0x300
/** Of requests that make something. */
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
/** Of NLMSG_ERROR: the request is not repeated in full; attributes follow. */
export const NLM_F_CAPPED = 0x100
export const NLM_F_ACK_TLVS = 0x200

/** What to ask, before it has a sequence number. */
export interface NetlinkRequest {
  readonly type: number
  /** Without NLM_F_REQUEST and NLM_F_ACK, which the socket adds. */
  readonly flags: number
  readonly body: Uint8Array<ArrayBuffer>
}

export interface NetlinkMessage {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  /** Port of the socket whose request caused this; 0: the kernel itself. */
  readonly port: number
  /** Where the body starts in the datagram. */
  readonly offset: number
  /** A view of what follows the header. */
  readonly body: Uint8Array
}

/** The bytes of one request; `port` 0 lets the kernel fill in its own idea. */
export function frameMessage(request: NetlinkRequest, flags: number, sequence: number): Uint8Array<ArrayBuffer> {
  return new Writer(HEADER_BYTES + request.body.length)
    .u32le(HEADER_BYTES + request.body.length)
    .u16le(request.type)
    .u16le(request.flags | flags)
    .u32le(sequence)
    .u32le(0)
    .put(request.body)
    .finish()
}

/** Splits a datagram into its messages. A header that lies gives a Fault with the offset. */
export function splitMessages(datagram: Uint8Array): Result<readonly NetlinkMessage[], Fault> {
  return guarded(() => {
    const reader = new Reader(datagram)
    const messages: NetlinkMessage[] = []
    while (reader.remaining > 0) {
      const at = reader.offset
      if (reader.remaining < HEADER_BYTES) throw malformed(`${reader.remaining} bytes are no header`, at)
      const length = reader.u32le()
      const [type, flags] = [reader.u16le(), reader.u16le()]
      const [sequence, port] = [reader.u32le(), reader.u32le()]
      if (length < HEADER_BYTES || length > datagram.length - at) {
        throw malformed(`message of type ${type} says length ${length}, ${datagram.length - at} are there`, at)
      }
      const offset = reader.offset
      messages.push({ type, flags, sequence, port, offset, body: reader.take(length - HEADER_BYTES) })
      reader.skip(Math.min((4 - (length % 4)) % 4, reader.remaining))
    }
    return messages
  })
}

/** A codec's own throw as a Result; anything that is no Fault is a programmer's mistake and goes on. */
export function guarded<T>(decode: () => T): Result<T, Fault> {
  try {
    return ok(decode())
  } catch (error) {
    if (error instanceof Fault) return fail(error)
    throw error
  }
}
