import { TAG_BYTES } from '#core/noise/crypto.ts'

/** The four messages of WireGuard's paper, section 5.4: type, three zero bytes, then fields in little endian. */
export type Message =
  | {
      readonly type: 'initiation'
      readonly sender: number
      /** The Noise message. */
      readonly noise: Uint8Array
      readonly mac2: Uint8Array
      readonly bytes: Uint8Array
    }
  | {
      readonly type: 'response'
      readonly sender: number
      readonly receiver: number
      readonly noise: Uint8Array
      readonly mac2: Uint8Array
      readonly bytes: Uint8Array
    }
  | {
      readonly type: 'cookie'
      readonly receiver: number
      readonly nonce: Uint8Array
      readonly cookie: Uint8Array
    }
  | { readonly type: 'data'; readonly receiver: number; readonly counter: bigint; readonly packet: Uint8Array }

const INITIATION_BYTES = 148
const RESPONSE_BYTES = 92
const COOKIE_BYTES = 64
const DATA_HEADER_BYTES = 16
export const MAC_BYTES = 16
const MACS_BYTES = 2 * MAC_BYTES

/** Views into `bytes`; undefined for a wrong type, a wrong length or reserved bytes that are not zero. */
export function parseMessage(bytes: Uint8Array): Message | undefined {
  if (bytes.length < DATA_HEADER_BYTES) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const end = bytes.length - MACS_BYTES
  const mac2 = () => bytes.subarray(end + MAC_BYTES)
  switch (view.getUint32(0, true)) {
    case 1:
      if (bytes.length !== INITIATION_BYTES) return undefined
      return { type: 'initiation', sender: view.getUint32(4, true), noise: bytes.subarray(8, end), mac2: mac2(), bytes }
    case 2:
      if (bytes.length !== RESPONSE_BYTES) return undefined
      return {
        type: 'response',
        sender: view.getUint32(4, true),
        receiver: view.getUint32(8, true),
        noise: bytes.subarray(12, end),
        mac2: mac2(),
        bytes,
      }
    case 3:
      if (bytes.length !== COOKIE_BYTES) return undefined
      return {
        type: 'cookie',
        receiver: view.getUint32(4, true),
        nonce: bytes.subarray(8, 32),
        cookie: bytes.subarray(32),
      }
    case 4:
      if (bytes.length < DATA_HEADER_BYTES + TAG_BYTES) return undefined
      return {
        type: 'data',
        receiver: view.getUint32(4, true),
        counter: view.getBigUint64(8, true),
        packet: bytes.subarray(DATA_HEADER_BYTES),
      }
    default:
      return undefined
  }
}

/** Both MACs are still zero. */
export function buildInitiation(sender: number, noise: Uint8Array): Uint8Array<ArrayBuffer> {
  return build(1, INITIATION_BYTES, [sender], noise)
}

/** Both MACs are still zero. */
export function buildResponse(sender: number, receiver: number, noise: Uint8Array): Uint8Array<ArrayBuffer> {
  return build(2, RESPONSE_BYTES, [sender, receiver], noise)
}

export function buildCookieReply(receiver: number, nonce: Uint8Array, cookie: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = build(3, COOKIE_BYTES, [receiver], nonce)
  bytes.set(cookie, 32)
  return bytes
}

export function buildData(receiver: number, counter: bigint, packet: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = build(4, DATA_HEADER_BYTES + packet.length, [receiver], new Uint8Array(0))
  new DataView(bytes.buffer).setBigUint64(8, counter, true)
  bytes.set(packet, DATA_HEADER_BYTES)
  return bytes
}

function build(type: number, length: number, indices: readonly number[], tail: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, type, true)
  indices.forEach((index, i) => view.setUint32(4 + 4 * i, index, true))
  bytes.set(tail, 4 + 4 * indices.length)
  return bytes
}
