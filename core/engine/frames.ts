import { Fault } from '#core/fault/fault.ts'

export const MAX_FRAME = 1 << 20

/** Cuts a byte stream into frames: what follows each length field. */
export class FrameSplitter {
  #rest: Uint8Array = new Uint8Array(0);

  /** The frames that are complete now; views of what was pushed. @throws Fault `engine.malformed`: the stream is lost. */
  *push(chunk: Uint8Array): Generator<Uint8Array> {
    let bytes = chunk
    if (this.#rest.length > 0) {
      bytes = new Uint8Array(this.#rest.length + chunk.length)
      bytes.set(this.#rest)
      bytes.set(chunk, this.#rest.length)
    }
    let at = 0
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    while (bytes.length - at >= 4) {
      const length = view.getUint32(at, true)
      if (length === 0 || length > MAX_FRAME) {
        throw new Fault('engine.malformed', `a frame of ${length} bytes; 1 to ${MAX_FRAME} are allowed`)
      }
      if (bytes.length - at - 4 < length) break
      yield bytes.subarray(at + 4, at + 4 + length)
      at += 4 + length
    }
    this.#rest = new Uint8Array(bytes.subarray(at))
  }
}
