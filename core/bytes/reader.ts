import { Fault } from '#core/fault/fault.ts'

/**
 * Reads fixed-width fields from bytes that came from outside; every overrun is a {@link Fault} that names the offset.
 *
 * Network headers are big endian (`u16be`), netlink and our own control protocol little endian (`u16le`).
 */
export class Reader {
  readonly bytes: Uint8Array
  offset: number
  readonly end: number
  readonly #view: DataView

  constructor(bytes: Uint8Array, offset = 0, end = bytes.length) {
    if (offset < 0 || end > bytes.length || offset > end) throw new TypeError(`no such range: ${offset}..${end}`)
    this.bytes = bytes
    this.offset = offset
    this.end = end
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get remaining(): number {
    return this.end - this.offset
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1))
  }
  u16le(): number {
    return this.#view.getUint16(this.#take(2), true)
  }
  u16be(): number {
    return this.#view.getUint16(this.#take(2), false)
  }
  u32le(): number {
    return this.#view.getUint32(this.#take(4), true)
  }
  u32be(): number {
    return this.#view.getUint32(this.#take(4), false)
  }
  i32le(): number {
    return this.#view.getInt32(this.#take(4), true)
  }
  u64le(): bigint {
    return this.#view.getBigUint64(this.#take(8), true)
  }
  u64be(): bigint {
    return this.#view.getBigUint64(this.#take(8), false)
  }

  /** A view, not a copy. */
  take(length: number): Uint8Array {
    const at = this.#take(length)
    return this.bytes.subarray(at, at + length)
  }

  /** A view of all that is left. */
  rest(): Uint8Array {
    return this.take(this.remaining)
  }

  skip(length: number): void {
    this.#take(length)
  }

  #take(length: number): number {
    const at = this.offset
    if (length < 0 || at + length > this.end) {
      throw new Fault('bytes.short', `needs ${length} bytes at offset ${at}, has ${this.end - at}`)
    }
    this.offset = at + length
    return at
  }
}
