import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import { Fault } from '#core/fault/fault.ts'

/**
 * Netlink attributes: `u16 length` (header included, padding not), `u16 type`, value, zeros up to a multiple of 4
 * (include/uapi/linux/netlink.h, struct nlattr).
 */
const HEADER = 4
/** NLA_TYPE_MASK: without the bits "nested" and "network byte order", which say nothing that we need. */
const TYPE_MASK = 0x3fff
const NESTED = 0x8000

/** One attribute as it was found; `reader` stands at its value and ends with it. */
export interface Attribute {
  readonly type: number
  /** Of the attribute's header, in the bytes that hold the whole message. */
  readonly offset: number
  readonly reader: Reader
}

/** All attributes up to the reader's end, in order. Throws a Fault `netlink.malformed` with the offset. */
export function readAttributes(reader: Reader): Attribute[] {
  const found: Attribute[] = []
  while (reader.remaining > 0) {
    const offset = reader.offset
    if (reader.remaining < HEADER) throw malformed(`${reader.remaining} bytes too many`, offset)
    const length = reader.u16le()
    const type = reader.u16le() & TYPE_MASK
    if (length < HEADER) throw malformed(`attribute ${type} says length ${length}, below its header`, offset)
    if (length - HEADER > reader.remaining) {
      throw malformed(`attribute ${type} says ${length - HEADER} bytes, has ${reader.remaining}`, offset)
    }
    const start = reader.offset
    reader.skip(length - HEADER)
    found.push({ type, offset, reader: new Reader(reader.bytes, start, reader.offset) })
    reader.skip(Math.min((4 - (length % 4)) % 4, reader.remaining))
  }
  return found
}

export function malformed(what: string, offset: number): Fault {
  return new Fault('netlink.malformed', `netlink message: ${what} (offset ${offset})`)
}

function exactly(attribute: Attribute, size: number): Reader {
  const { reader } = attribute
  // the kernel pads none of these; more bytes would be another format
  if (reader.remaining !== size) {
    throw malformed(`attribute ${attribute.type} has ${reader.remaining} bytes, not ${size}`, attribute.offset)
  }
  return reader
}

export function readU8(attribute: Attribute): number {
  return exactly(attribute, 1).u8()
}
export function readU16(attribute: Attribute): number {
  return exactly(attribute, 2).u16le()
}
export function readU16be(attribute: Attribute): number {
  return exactly(attribute, 2).u16be()
}
export function readU32(attribute: Attribute): number {
  return exactly(attribute, 4).u32le()
}
export function readU64(attribute: Attribute): bigint {
  return exactly(attribute, 8).u64le()
}
/** Of exactly that many bytes: a view, not a copy. */
export function readBytesOf(attribute: Attribute, size: number): Uint8Array {
  return exactly(attribute, size).rest()
}
export function readBytes(attribute: Attribute): Uint8Array {
  return attribute.reader.rest()
}

/** Up to the first zero byte, if there is one. */
export function readText(attribute: Attribute): string {
  const bytes = attribute.reader.rest()
  const end = bytes.indexOf(0)
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end))
}

/** Writes attributes behind what is already in `writer`, which must be aligned to 4. */
export class AttributeWriter {
  readonly writer: Writer

  constructor(writer = new Writer()) {
    this.writer = writer
  }

  bytes(type: number, value: Uint8Array): this {
    this.writer
      .u16le(HEADER + value.length)
      .u16le(type)
      .put(value)
      .align(4)
    return this
  }
  u8(type: number, value: number): this {
    return this.bytes(type, Uint8Array.of(value))
  }
  u16(type: number, value: number): this {
    return this.bytes(type, Uint8Array.of(value & 255, value >> 8))
  }
  u16be(type: number, value: number): this {
    return this.bytes(type, Uint8Array.of(value >> 8, value & 255))
  }
  u32(type: number, value: number): this {
    this.writer.u16le(8).u16le(type).u32le(value)
    return this
  }
  /** With the closing zero byte. */
  text(type: number, value: string): this {
    return this.bytes(type, new TextEncoder().encode(`${value}\0`))
  }
  nested(type: number, fill: (inner: this) => void): this {
    const start = this.writer.length
    this.writer.u16le(0).u16le(type | NESTED)
    fill(this)
    this.writer.patchU16le(start, this.writer.length - start)
    return this
  }

  finish(): Uint8Array<ArrayBuffer> {
    return this.writer.finish()
  }
}
