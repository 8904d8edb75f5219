import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import type { Fault } from '#core/fault/fault.ts'
import type { Result } from '#core/fault/result.ts'
import type { Family, Ip } from '#core/ip/address.ts'
import { type Attribute, AttributeWriter, readAttributes, readBytesOf, readU8, readU32 } from './attribute.ts'
import { guarded, type NetlinkMessage, type NetlinkRequest, NLM_F_DUMP } from './message.ts'
import { afOf, familyOfAf } from './rtnetlink.ts'
import * as xfrm from './xfrm.ts'
import { type CryptoParts, cryptoOf, putCrypto, readCrypto, type XfrmCrypto } from './xfrm-algorithm.ts'
import { readReplay, readReplayEsn, replayEsnBytes, type XfrmReplay } from './xfrm-replay.ts'

/** Bits of {@link XfrmState.flags} that are used here; others pass as they are. */
/** Both families inside a tunnel, whatever the outer one is. */
export const XFRM_STATE_AF_UNSPEC = 32
export const XFRM_STATE_ALIGN4 = 64
/** 64-bit sequence numbers. */
export const XFRM_STATE_ESN = 128

/** ESP in UDP (RFC 3948). */
export const UDP_ENCAP_ESPINUDP = 2

/** What the kernel finds a state by, when something arrives. */
export interface XfrmStateId {
  readonly destination: Ip
  readonly spi: number
  /** {@link xfrm.IPPROTO_ESP}. */
  readonly protocol: number
  /** Of the packet that arrives. */
  readonly mark?: xfrm.XfrmMark
}

/** One security association in one direction. */
export interface XfrmState extends XfrmStateId {
  readonly source: Ip
  readonly mode: xfrm.XfrmMode
  /** Ties it to the templates of policies. */
  readonly reqid: number
  readonly crypto: XfrmCrypto
  readonly flags: number
  /** With {@link XFRM_STATE_ESN} any window up to 4,096 packets, else up to 32; where it begins counting. */
  readonly replay: XfrmReplay
  /** Absent: all packets of its own family. */
  readonly selector?: xfrm.XfrmSelector
  readonly encapsulation?: XfrmEncapsulation
  /** Set on what leaves encrypted, or was decrypted. */
  readonly outputMark?: xfrm.XfrmMark
  readonly limits?: xfrm.XfrmLimits
  /** Encrypted by that device. */
  readonly offload?: { readonly index: number; readonly flags: number }
  /** Of an xfrm interface. */
  readonly interfaceId?: number
  /** XFRM_SA_XFLAG_*: more flags. */
  readonly extraFlags?: number
  /** Only from Linux 6.10. */
  readonly direction?: 'in' | 'out'
}

interface XfrmEncapsulation {
  readonly type: number
  readonly sourcePort: number
  readonly destinationPort: number
}

export interface SeenXfrmState extends Omit<XfrmState, 'crypto'>, xfrm.XfrmUse {
  /** Undefined: none of ESP's. */
  readonly crypto: XfrmCrypto | undefined
  /** Packets before the window, twice received, not authentic. */
  readonly beforeWindow: number
  readonly replayed: number
  readonly integrityFailed: number
}

/** Fails with EEXIST when destination, SPI, protocol and mark are taken, whoever the source is. */
export function newState(state: XfrmState): NetlinkRequest {
  return { type: xfrm.XFRM_MSG_NEWSA, flags: 0, body: encode(state) }
}

/**
 * Changes selector, encapsulation, limits, output mark, and with Linux' own rules the sequence numbers never; algorithms and
 * keys stay as they are. ESRCH: it is not there.
 */
export function updateState(state: XfrmState): NetlinkRequest {
  return { type: xfrm.XFRM_MSG_UPDSA, flags: 0, body: encode(state) }
}

export function deleteState(id: XfrmStateId & { readonly source: Ip }): NetlinkRequest {
  return { type: xfrm.XFRM_MSG_DELSA, flags: 0, body: encodeId(id) }
}

export function getState(id: XfrmStateId & { readonly source: Ip }): NetlinkRequest {
  return { type: xfrm.XFRM_MSG_GETSA, flags: 0, body: encodeId(id) }
}

export function dumpStates(): NetlinkRequest {
  return { type: xfrm.XFRM_MSG_GETSA, flags: NLM_F_DUMP, body: new Uint8Array() }
}

/** All states of the protocol, anybody's. */
export function flushStates(protocol: number): NetlinkRequest {
  return { type: xfrm.XFRM_MSG_FLUSHSA, flags: 0, body: Uint8Array.of(protocol) }
}

/** struct xfrm_usersa_id, then the source and the mark. */
function encodeId(id: XfrmStateId & { readonly source: Ip }): Uint8Array<ArrayBuffer> {
  const family = xfrm.familyOfBoth(id.source, id.destination)
  const writer = new Writer()
  xfrm.putAddress(writer, id.destination)
  writer.u32be(id.spi).u16le(afOf(family)).u8(id.protocol).zeros(1)
  const to = new AttributeWriter(writer)
  const source = new Writer(xfrm.XFRM_ADDRESS_BYTES)
  xfrm.putAddress(source, id.source)
  if (id.mark !== undefined) xfrm.putMark(to, id.mark)
  return to.bytes(xfrm.XFRMA_SRCADDR, source.finish()).finish()
}

/** struct xfrm_usersa_info (224 bytes), then attributes. */
function encode(state: XfrmState): Uint8Array<ArrayBuffer> {
  const family = xfrm.familyOfBoth(state.source, state.destination)
  const esn = (state.flags & XFRM_STATE_ESN) !== 0
  const { window } = state.replay
  if (!esn && window > 32) throw new TypeError('a replay window of more than 32 packets needs ESN')
  const writer = new Writer(512)
  xfrm.putSelector(writer, state.selector)
  xfrm.putAddress(writer, state.destination)
  writer.u32be(state.spi).u8(state.protocol).zeros(3)
  xfrm.putAddress(writer, state.source)
  xfrm.putLimits(writer, state.limits)
  // what the kernel counts
  writer.zeros(xfrm.USE_BYTES + 12)
  writer.zeros(4).u32le(state.reqid).u16le(afOf(family)).u8(xfrm.modeNumber(state.mode))
  writer
    .u8(esn ? 0 : window)
    .u8(state.flags)
    .align(8)
  const to = new AttributeWriter(writer)
  putCrypto(to, state.crypto)
  if (state.encapsulation !== undefined) to.bytes(xfrm.XFRMA_ENCAP, encapsulationBytes(state.encapsulation))
  if (state.mark !== undefined) xfrm.putMark(to, state.mark)
  if (esn) to.bytes(xfrm.XFRMA_REPLAY_ESN_VAL, replayEsnBytes(state.replay))
  else if (state.replay.sent > 0n || state.replay.received > 0n)
    to.bytes(xfrm.XFRMA_REPLAY_VAL, replayBytes(state.replay))
  if (state.extraFlags !== undefined) to.u32(xfrm.XFRMA_SA_EXTRA_FLAGS, state.extraFlags)
  if (state.offload !== undefined) to.bytes(xfrm.XFRMA_OFFLOAD_DEV, offloadBytes(state.offload))
  if (state.outputMark !== undefined) {
    to.u32(xfrm.XFRMA_SET_MARK, state.outputMark.value).u32(xfrm.XFRMA_SET_MARK_MASK, state.outputMark.mask)
  }
  if (state.interfaceId !== undefined) to.u32(xfrm.XFRMA_IF_ID, state.interfaceId)
  if (state.direction !== undefined) to.u8(xfrm.XFRMA_SA_DIR, state.direction === 'in' ? 1 : 2)
  return to.finish()
}

function replayBytes({ sent, received, bitmap }: XfrmReplay): Uint8Array<ArrayBuffer> {
  return new Writer(12)
    .u32le(Number(sent))
    .u32le(Number(received))
    .u32le((bitmap?.[0] ?? 0) >>> 0)
    .finish()
}

/** struct xfrm_encap_tmpl: type, ports, padding, the original address, which is none. */
function encapsulationBytes({ type, sourcePort, destinationPort }: XfrmEncapsulation): Uint8Array<ArrayBuffer> {
  return new Writer(24).u16le(type).u16be(sourcePort).u16be(destinationPort).zeros(18).finish()
}

function offloadBytes({ index, flags }: { readonly index: number; readonly flags: number }): Uint8Array<ArrayBuffer> {
  return new Writer(8).i32le(index).u8(flags).zeros(3).finish()
}

/** Of XFRM_MSG_NEWSA and XFRM_MSG_UPDSA; undefined for a family that is not IP. */
export function decodeState(message: NetlinkMessage): Result<SeenXfrmState | undefined, Fault> {
  return guarded(() => {
    const reader = new Reader(message.body)
    const fixed = readInfo(reader)
    return fixed && { ...fixed.info, ...readMore(readAttributes(reader), fixed.window) }
  })
}

/** Only the structure; what else is known of the state is in attributes beside it. */
export function readStateBeside(info: Reader, attributes: readonly Attribute[]): SeenXfrmState | undefined {
  const fixed = readInfo(info)
  return fixed === undefined ? undefined : { ...fixed.info, ...readMore(attributes, fixed.window) }
}

function readInfo(reader: Reader) {
  const selector = xfrm.readSelector(reader)
  const destination = reader.take(xfrm.XFRM_ADDRESS_BYTES)
  const [spi, protocol] = [reader.u32be(), reader.u8()]
  reader.skip(3)
  const source = reader.take(xfrm.XFRM_ADDRESS_BYTES)
  const limits = xfrm.readLimits(reader)
  const use = xfrm.readUse(reader)
  const [beforeWindow, replayed, integrityFailed] = [reader.u32le(), reader.u32le(), reader.u32le()]
  reader.skip(4)
  const reqid = reader.u32le()
  const family = familyOfAf(reader.u16le())
  const at = reader.offset
  const mode = reader.u8()
  const [window, flags] = [reader.u8(), reader.u8()]
  reader.skip(7)
  if (family === undefined) return undefined
  return {
    window,
    info: {
      ...addresses(family, source, destination),
      spi,
      protocol,
      reqid,
      flags,
      mode: xfrm.modeOf(mode, at),
      ...(selector === undefined || xfrm.matchesAll(selector, family) ? {} : { selector }),
      ...(Object.keys(limits).length === 0 ? {} : { limits }),
      ...use,
      beforeWindow,
      replayed,
      integrityFailed,
    },
  }
}

function addresses(family: Family, source: Uint8Array, destination: Uint8Array) {
  return { source: xfrm.addressOf(family, source), destination: xfrm.addressOf(family, destination) }
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }
type More = Pick<
  SeenXfrmState,
  'mark' | 'encapsulation' | 'outputMark' | 'offload' | 'interfaceId' | 'extraFlags' | 'direction' | 'replay' | 'crypto'
>

function readMore(attributes: readonly Attribute[], window: number): More {
  const parts: CryptoParts = {}
  const more: Mutable<More> = { replay: { sent: 0n, received: 0n, window }, crypto: undefined }
  let outputMark: number | undefined
  let outputMask = 0xffffffff
  for (const attribute of attributes) {
    if (readCrypto(attribute, parts)) continue
    switch (attribute.type) {
      case xfrm.XFRMA_ENCAP:
        more.encapsulation = readEncapsulation(attribute)
        break
      case xfrm.XFRMA_MARK:
        more.mark = xfrm.readMark(attribute)
        break
      case xfrm.XFRMA_REPLAY_VAL:
        more.replay = readReplay(attribute, window)
        break
      case xfrm.XFRMA_REPLAY_ESN_VAL:
        more.replay = readReplayEsn(attribute)
        break
      case xfrm.XFRMA_SET_MARK:
        outputMark = readU32(attribute)
        break
      case xfrm.XFRMA_SET_MARK_MASK:
        outputMask = readU32(attribute)
        break
      case xfrm.XFRMA_IF_ID:
        more.interfaceId = readU32(attribute)
        break
      case xfrm.XFRMA_SA_EXTRA_FLAGS:
        more.extraFlags = readU32(attribute)
        break
      case xfrm.XFRMA_SA_DIR:
        more.direction = readU8(attribute) === 1 ? 'in' : 'out'
        break
      case xfrm.XFRMA_OFFLOAD_DEV: {
        const reader = new Reader(readBytesOf(attribute, 8))
        more.offload = { index: reader.i32le(), flags: reader.u8() }
        break
      }
    }
  }
  if (outputMark !== undefined) more.outputMark = { value: outputMark, mask: outputMask }
  more.crypto = cryptoOf(parts)
  return more
}

function readEncapsulation(attribute: Attribute): XfrmEncapsulation {
  const reader = new Reader(readBytesOf(attribute, 24))
  return { type: reader.u16le(), sourcePort: reader.u16be(), destinationPort: reader.u16be() }
}
