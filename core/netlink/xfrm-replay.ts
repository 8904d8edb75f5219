import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import { type Attribute, malformed } from './attribute.ts'

/** Sequence numbers of a state (struct xfrm_replay_state_esn; xfrm_replay_state is the one of 32 packets). */
export interface XfrmReplay {
  /** The last number that was used for sending; 64 bits with ESN, else 32. */
  readonly sent: bigint
  /** The highest number that was accepted. */
  readonly received: bigint
  /** Packets that the window holds. 0 on a state that only sends. */
  readonly window: number
  /** Words of 32 bits: packet `n` is bit `(n - 1) % window`. Absent: none was seen. */
  readonly bitmap?: readonly number[]
}

/** XFRMA_REPLAY_ESN_MAX: 4,096 bits. */
const MAX_REPLAY_WINDOW = 4096

export function replayEsnBytes({ sent, received, window, bitmap }: XfrmReplay): Uint8Array<ArrayBuffer> {
  if (window > MAX_REPLAY_WINDOW) throw new TypeError(`a replay window has ${MAX_REPLAY_WINDOW} packets at most`)
  const words = Math.ceil(window / 32)
  const writer = new Writer(24 + words * 4)
    .u32le(words)
    .u32le(Number(sent & 0xffffffffn))
    .u32le(Number(received & 0xffffffffn))
    .u32le(Number(sent >> 32n))
    .u32le(Number(received >> 32n))
    .u32le(window)
  // without, the kernel takes zeros
  if (bitmap !== undefined) for (let i = 0; i < words; i++) writer.u32le((bitmap[i] ?? 0) >>> 0)
  return writer.finish()
}

export function readReplayEsn(attribute: Attribute): XfrmReplay {
  const { reader } = attribute
  const words = reader.u32le()
  const [sentLow, receivedLow] = [reader.u32le(), reader.u32le()]
  const [sentHigh, receivedHigh] = [reader.u32le(), reader.u32le()]
  const window = reader.u32le()
  const missing = reader.remaining === 0
  if ((words * 4 !== reader.remaining && !missing) || window > words * 32) {
    throw malformed(
      `a replay window of ${window} packets in ${words} words, ${reader.remaining} bytes`,
      attribute.offset,
    )
  }
  return withBitmap(join(sentHigh, sentLow), join(receivedHigh, receivedLow), window, reader, missing ? 0 : words)
}

/** u32 sent, u32 received, u32 bitmap; the window's size stands in the state itself. */
export function readReplay(attribute: Attribute, window: number): XfrmReplay {
  const reader = new Reader(attribute.reader.rest())
  if (reader.remaining !== 12) {
    throw malformed(`attribute ${attribute.type} has ${reader.remaining} bytes, not 12`, attribute.offset)
  }
  return withBitmap(BigInt(reader.u32le()), BigInt(reader.u32le()), window, reader, 1)
}

function withBitmap(sent: bigint, received: bigint, window: number, reader: Reader, words: number): XfrmReplay {
  const bitmap = Array.from({ length: words }, () => reader.u32le())
  return { sent, received, window, ...(bitmap.some((word) => word !== 0) ? { bitmap } : {}) }
}

function join(high: number, low: number): bigint {
  return (BigInt(high) << 32n) | BigInt(low)
}
