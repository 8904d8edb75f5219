import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import { Fault } from '#core/fault/fault.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import { type PublicKey, publicKeyBytes, publicKeyOf } from '#core/wireguard/key.ts'
import { type DumpedAssociation, readAssociation, writeAssociation } from './association.ts'
import { type EngineEndpoint, readEndpoint, writeEndpoint, writePrefix } from './endpoint.ts'
import { PLACES, type Place, placeOf, ROLES, type Role, readPrefixes, roleOf } from './request.ts'
import { fromNanoseconds, toNanoseconds } from './time.ts'

/** What the engine says to the keeper (docs/protocol/engine.md). Times are milliseconds of CLOCK_MONOTONIC, 0 never. */
export type EngineEvent =
  | {
      type: 'hello'
      protocol: number
      /** Hex; made with the shared memory. Another one means that sessions and counters are new. */
      instance: string
      pid: number
      maxPeers: number
      version: string
    }
  | { type: 'reply'; request: number; status: ReplyStatus; text: string }
  | ({ type: 'peer'; request: number } & DumpedPeer)
  | ({ type: 'session'; request: number } & DumpedSession)
  | { type: 'allowed'; request: number; peer: number; prefixes: readonly Cidr[] }
  | {
      type: 'handshake'
      source: EngineEndpoint
      /** Our own address; its port is 0. */
      destination: EngineEndpoint | undefined
      ecn: number
      message: Uint8Array
    }
  | { type: 'wanted'; peer: number; reason: WantedReason }
  | { type: 'confirmed'; peer: number; local: number }
  | { type: 'activity'; peers: readonly { peer: number; activity: Activity }[] }
  | { type: 'moved'; peer: number; endpoint: EngineEndpoint }
  | ({ type: 'association'; request: number } & DumpedAssociation)
  /** IPsec: the first authenticated packet came from this peer; from now on anything is sent to it. */
  | { type: 'heard'; peer: number }

export type ReplyStatus = 'done' | 'absent' | 'full' | 'malformed'

/** `waiting`: a packet waits and there is no session; else the session is old (or used up) on sending, on receiving. */
export type WantedReason = 'waiting' | 'old-sending' | 'old-receiving'

export interface Activity {
  readonly firstUnanswered: number
  readonly firstUnacknowledged: number
  readonly lastSent: number
  readonly lastReceived: number
  readonly lastAuthenticated: number
  readonly rxBytes: bigint
  readonly txBytes: bigint
}

/** Of a slot that has just been filled. */
export const NO_ACTIVITY: Activity = {
  firstUnanswered: 0,
  firstUnacknowledged: 0,
  lastSent: 0,
  lastReceived: 0,
  lastAuthenticated: 0,
  rxBytes: 0n,
  txBytes: 0n,
}

export interface DumpedPeer {
  readonly peer: number
  readonly publicKey: PublicKey
  readonly endpoint: EngineEndpoint | undefined
  readonly activity: Activity
}

export interface DumpedSession {
  readonly peer: number
  readonly local: number
  readonly remote: number
  readonly role: Role
  readonly place: Place
  readonly born: number
  readonly sent: bigint
  readonly received: bigint
}

const STATUSES: readonly ReplyStatus[] = ['done', 'absent', 'full', 'malformed']
const REASONS: readonly (WantedReason | undefined)[] = [undefined, 'waiting', 'old-sending', 'old-receiving']
const ACTIVITY_BYTES = 56

/** `body` is what follows the length. Undefined for a type that we do not know: it is to be ignored. */
export function decodeEvent(body: Uint8Array): EngineEvent | undefined {
  const reader = new Reader(body)
  const event = decodeBody(reader.u8(), reader)
  if (event !== undefined && reader.remaining > 0) {
    throw new Fault('engine.malformed', `${reader.remaining} bytes too many at offset ${reader.offset}`)
  }
  return event
}

function decodeBody(type: number, reader: Reader): EngineEvent | undefined {
  switch (type) {
    case 0x01:
      return {
        type: 'hello',
        protocol: reader.u16le(),
        instance: reader.take(16).toHex(),
        pid: reader.u32le(),
        maxPeers: reader.u32le(),
        version: textOf(reader),
      }
    case 0x02: {
      const request = reader.u32le()
      const status = known(STATUSES[reader.u8()], 'status', reader)
      return { type: 'reply', request, status, text: textOf(reader) }
    }
    case 0x03: {
      const request = reader.u32le()
      const peer = reader.u32le()
      const publicKey = publicKeyOf(reader.take(32))
      const endpoint = readEndpoint(reader)
      reader.skip(16) // rxBytes and txBytes stand in the activity again
      return { type: 'peer', request, peer, publicKey, endpoint, activity: readActivity(reader) }
    }
    case 0x04:
      return {
        type: 'session',
        request: reader.u32le(),
        peer: reader.u32le(),
        local: reader.u32le(),
        remote: reader.u32le(),
        role: roleOf(reader),
        place: placeOf(reader),
        born: fromNanoseconds(reader.u64le()),
        sent: reader.u64le(),
        received: reader.u64le(),
      }
    case 0x05:
      return { type: 'allowed', request: reader.u32le(), peer: reader.u32le(), prefixes: readPrefixes(reader) }
    case 0x10: {
      const source = known(readEndpoint(reader), 'source', reader)
      const destination = readEndpoint(reader)
      return { type: 'handshake', source, destination, ecn: reader.u8(), message: new Uint8Array(reader.rest()) }
    }
    case 0x11:
      return { type: 'wanted', peer: reader.u32le(), reason: known(REASONS[reader.u8()], 'reason', reader) }
    case 0x12:
      return { type: 'confirmed', peer: reader.u32le(), local: reader.u32le() }
    case 0x13: {
      const count = reader.u32le()
      if (count * (4 + ACTIVITY_BYTES) !== reader.remaining) {
        throw new Fault('engine.malformed', `${count} activities announced, ${reader.remaining} bytes left`)
      }
      const peers = Array.from({ length: count }, () => ({ peer: reader.u32le(), activity: readActivity(reader) }))
      return { type: 'activity', peers }
    }
    case 0x14:
      return { type: 'moved', peer: reader.u32le(), endpoint: known(readEndpoint(reader), 'endpoint', reader) }
    case 0x06:
      return { type: 'association', request: reader.u32le(), ...readAssociation(reader) }
    case 0x15:
      return { type: 'heard', peer: reader.u32le() }
    default:
      return undefined
  }
}

/** The engine's side, for tests: the whole frame, length included. */
export function encodeEvent(event: EngineEvent): Uint8Array<ArrayBuffer> {
  const writer = new Writer(128).u32le(0)
  switch (event.type) {
    case 'hello':
      writer.u8(0x01).u16le(event.protocol).put(Uint8Array.fromHex(event.instance)).u32le(event.pid)
      writer.u32le(event.maxPeers).put(new TextEncoder().encode(event.version))
      break
    case 'reply':
      writer.u8(0x02).u32le(event.request).u8(STATUSES.indexOf(event.status)).put(new TextEncoder().encode(event.text))
      break
    case 'peer':
      writer.u8(0x03).u32le(event.request).u32le(event.peer).put(publicKeyBytes(event.publicKey))
      writeEndpoint(writer, event.endpoint)
      writer.u64le(event.activity.rxBytes).u64le(event.activity.txBytes)
      writeActivity(writer, event.activity)
      break
    case 'session':
      writer.u8(0x04).u32le(event.request).u32le(event.peer).u32le(event.local).u32le(event.remote)
      writer.u8(ROLES.indexOf(event.role)).u8(PLACES.indexOf(event.place)).u64le(toNanoseconds(event.born))
      writer.u64le(event.sent).u64le(event.received)
      break
    case 'allowed':
      writer.u8(0x05).u32le(event.request).u32le(event.peer).u32le(event.prefixes.length)
      for (const prefix of event.prefixes) writePrefix(writer, prefix)
      break
    case 'handshake':
      writer.u8(0x10)
      writeEndpoint(writer, event.source)
      writeEndpoint(writer, event.destination)
      writer.u8(event.ecn).put(event.message)
      break
    case 'wanted':
      writer.u8(0x11).u32le(event.peer).u8(REASONS.indexOf(event.reason))
      break
    case 'confirmed':
      writer.u8(0x12).u32le(event.peer).u32le(event.local)
      break
    case 'activity':
      writer.u8(0x13).u32le(event.peers.length)
      for (const { peer, activity } of event.peers) writeActivity(writer.u32le(peer), activity)
      break
    case 'moved':
      writer.u8(0x14).u32le(event.peer)
      writeEndpoint(writer, event.endpoint)
      break
    case 'association':
      writeAssociation(writer.u8(0x06).u32le(event.request), event)
      break
    case 'heard':
      writer.u8(0x15).u32le(event.peer)
      break
  }
  writer.patchU32le(0, writer.length - 4)
  return writer.finish()
}

function readActivity(reader: Reader): Activity {
  return {
    firstUnanswered: fromNanoseconds(reader.u64le()),
    firstUnacknowledged: fromNanoseconds(reader.u64le()),
    lastSent: fromNanoseconds(reader.u64le()),
    lastReceived: fromNanoseconds(reader.u64le()),
    lastAuthenticated: fromNanoseconds(reader.u64le()),
    rxBytes: reader.u64le(),
    txBytes: reader.u64le(),
  }
}

function writeActivity(writer: Writer, activity: Activity): void {
  for (const time of [
    activity.firstUnanswered,
    activity.firstUnacknowledged,
    activity.lastSent,
    activity.lastReceived,
    activity.lastAuthenticated,
  ]) {
    writer.u64le(toNanoseconds(time))
  }
  writer.u64le(activity.rxBytes).u64le(activity.txBytes)
}

function textOf(reader: Reader): string {
  return new TextDecoder().decode(reader.rest())
}

function known<T>(value: T | undefined, what: string, reader: Reader): T {
  if (value === undefined) throw new Fault('engine.malformed', `no ${what} before offset ${reader.offset}`)
  return value
}
