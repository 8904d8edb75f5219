/** Appends fixed-width fields to a growing buffer. The counterpart of `Reader`. */
export class Writer {
  #bytes: Uint8Array<ArrayBuffer>
  #view: DataView
  #length = 0

  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity)
    this.#view = new DataView(this.#bytes.buffer)
  }

  get length(): number {
    return this.#length
  }

  u8(value: number): this {
    const at = this.#grow(1)
    this.#view.setUint8(at, value)
    return this
  }
  u16le(value: number): this {
    const at = this.#grow(2)
    this.#view.setUint16(at, value, true)
    return this
  }
  u16be(value: number): this {
    const at = this.#grow(2)
    this.#view.setUint16(at, value, false)
    return this
  }
  u32le(value: number): this {
    const at = this.#grow(4)
    this.#view.setUint32(at, value, true)
    return this
  }
  u32be(value: number): this {
    const at = this.#grow(4)
    this.#view.setUint32(at, value, false)
    return this
  }
  i32le(value: number): this {
    const at = this.#grow(4)
    this.#view.setInt32(at, value, true)
    return this
  }
  u64le(value: bigint): this {
    const at = this.#grow(8)
    this.#view.setBigUint64(at, value, true)
    return this
  }
  u64be(value: bigint): this {
    const at = this.#grow(8)
    this.#view.setBigUint64(at, value, false)
    return this
  }

  put(bytes: Uint8Array): this {
    const at = this.#grow(bytes.length) // first: it may replace the buffer
    this.#bytes.set(bytes, at)
    return this
  }

  zeros(count: number): this {
    this.#grow(count)
    return this
  }

  /** Zero bytes up to the next multiple of `size`. */
  align(size: number): this {
    return this.zeros((size - (this.#length % size)) % size)
  }

  /** Overwrites two bytes that are already written, e.g. a length known only later. */
  patchU16le(offset: number, value: number): void {
    this.#view.setUint16(this.#written(offset, 2), value, true)
  }

  patchU32le(offset: number, value: number): void {
    this.#view.setUint32(this.#written(offset, 4), value, true)
  }

  /** A copy of what was written. */
  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length)
  }

  #written(offset: number, size: number): number {
    if (offset < 0 || offset + size > this.#length) throw new TypeError(`offset ${offset} is not written yet`)
    return offset
  }

  #grow(count: number): number {
    const at = this.#length
    const needed = at + count
    if (needed > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(needed, this.#bytes.length * 2))
      larger.set(this.#bytes.subarray(0, at))
      this.#bytes = larger
      this.#view = new DataView(larger.buffer)
    }
    this.#length = needed
    return at
  }
}
