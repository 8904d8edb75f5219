import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import { Fault } from '#core/fault/fault.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import { type PublicKey, publicKeyBytes, publicKeyOf } from '#core/wireguard/key.ts'
import {
  type Direction,
  directionCode,
  directionOf,
  type Encapsulation,
  type EngineKeys,
  encapsulationCode,
  encapsulationOf,
  encodeKeys,
  type Outer,
  readFingerprint,
  readKeys,
  readOuter,
  writeFingerprint,
  writeOuter,
} from './association.ts'
import { type EngineEndpoint, readEndpoint, readPrefix, writeEndpoint, writePrefix } from './endpoint.ts'
import { fromNanoseconds, toNanoseconds } from './time.ts'

/**
 * What the keeper, or for IPsec the agent, asks of the engine (docs/protocol/engine.md). Times are milliseconds of CLOCK_MONOTONIC.
 * `peer` is a slot, `local` and `remote` are session indices.
 */
export type EngineRequest =
  | { op: 'setPeer'; peer: number; publicKey: PublicKey; endpoint: EngineEndpoint | undefined }
  | { op: 'removePeer' | 'keepalive' | 'clearSessions' | 'dropWaiting'; peer: number }
  | { op: 'allow' | 'disallow'; peer: number; prefixes: readonly Cidr[] }
  | SetSession
  | { op: 'removeSession'; local: number }
  | {
      op: 'send'
      source: EngineEndpoint | undefined
      destination: EngineEndpoint
      tos: number
      message: Uint8Array
    }
  | { op: 'dump' | 'counters' }
  /** Of the device's public key; all zero: handshake messages are not checked. */
  | { op: 'setMacKey'; macKey: Uint8Array }
  | SetSending
  | { op: 'setReceiving'; peer: number; spi: number; outer: Outer; keys: EngineKeys }
  /** `fingerprint`: of the derived key, 16 hexadecimal digits. */
  | { op: 'removeAssociation'; direction: Direction; peer: number; spi: number; fingerprint: string }

/** Devices of IPsec. The reply comes when nothing leaves by the former association any more. */
interface SetSending {
  readonly op: 'setSending'
  readonly peer: number
  readonly spi: number
  readonly encapsulation: Encapsulation
  /** Of UDP at the peer; without meaning for `none`. */
  readonly port: number
  readonly outer: Outer
  readonly keys: EngineKeys
}

export type Place = 'previous' | 'current' | 'next'
export type Role = 'initiator' | 'responder'

export interface SetSession {
  readonly op: 'setSession'
  readonly peer: number
  readonly place: 'current' | 'next'
  readonly role: Role
  readonly local: number
  readonly remote: number
  readonly born: number
  readonly sendKey: Uint8Array
  readonly receiveKey: Uint8Array
}

const TYPES = {
  setPeer: 0x80,
  removePeer: 0x81,
  allow: 0x82,
  disallow: 0x83,
  setSession: 0x84,
  removeSession: 0x85,
  send: 0x86,
  keepalive: 0x87,
  dump: 0x88,
  counters: 0x89,
  clearSessions: 0x8a,
  dropWaiting: 0x8b,
  setMacKey: 0x8c,
  setSending: 0x90,
  setReceiving: 0x91,
  removeAssociation: 0x92,
} as const satisfies Record<EngineRequest['op'], number>

export const PLACES: readonly Place[] = ['previous', 'current', 'next']
export const ROLES: readonly (Role | undefined)[] = [undefined, 'initiator', 'responder']

/** Prefixes in one frame; more would pass 1 MiB. */
export const MAX_PREFIXES = 50_000

/** The whole frame, length included. */
export function encodeRequest(id: number, request: EngineRequest): Uint8Array<ArrayBuffer> {
  const writer = new Writer(256).u32le(0).u8(TYPES[request.op]).u32le(id)
  switch (request.op) {
    case 'setPeer':
      writer.u32le(request.peer).put(publicKeyBytes(request.publicKey))
      writeEndpoint(writer, request.endpoint)
      break
    case 'removePeer':
    case 'keepalive':
    case 'clearSessions':
    case 'dropWaiting':
      writer.u32le(request.peer)
      break
    case 'allow':
    case 'disallow':
      writer.u32le(request.peer).u32le(request.prefixes.length)
      for (const prefix of request.prefixes) writePrefix(writer, prefix)
      break
    case 'setSession':
      writer.u32le(request.peer).u8(PLACES.indexOf(request.place)).u8(ROLES.indexOf(request.role))
      writer.u32le(request.local).u32le(request.remote).u64le(toNanoseconds(request.born))
      writer.put(request.sendKey).put(request.receiveKey)
      break
    case 'removeSession':
      writer.u32le(request.local)
      break
    case 'send':
      writeEndpoint(writer, request.source)
      writeEndpoint(writer, request.destination)
      writer.u8(request.tos).put(request.message)
      break
    case 'dump':
    case 'counters':
      break
    case 'setMacKey':
      writer.put(request.macKey)
      break
    case 'setSending':
      writer.u32le(request.peer).u32le(request.spi).u8(encapsulationCode(request.encapsulation)).u16le(request.port)
      writeOuter(writer, request.outer)
      writer.put(encodeKeys(request.keys))
      break
    case 'setReceiving':
      writer.u32le(request.peer).u32le(request.spi)
      writeOuter(writer, request.outer)
      writer.put(encodeKeys(request.keys))
      break
    case 'removeAssociation':
      writer.u8(directionCode(request.direction)).u32le(request.peer).u32le(request.spi)
      writeFingerprint(writer, request.fingerprint)
      break
  }
  writer.patchU32le(0, writer.length - 4)
  return writer.finish()
}

/** The engine's side of {@link encodeRequest}, for tests. `body` is what follows the length. */
export function decodeRequest(body: Uint8Array): { id: number; request: EngineRequest } {
  const reader = new Reader(body)
  const type = reader.u8()
  const id = reader.u32le()
  const request = decodeBody(type, reader)
  if (reader.remaining > 0) {
    throw new Fault('engine.malformed', `${reader.remaining} bytes too many at offset ${reader.offset}`)
  }
  return { id, request }
}

function decodeBody(type: number, reader: Reader): EngineRequest {
  const op = (Object.keys(TYPES) as EngineRequest['op'][]).find((name) => TYPES[name] === type)
  if (op === undefined) throw new Fault('engine.malformed', `unknown type 0x${type.toString(16)}`)
  switch (op) {
    case 'setPeer':
      return { op, peer: reader.u32le(), publicKey: publicKeyOf(reader.take(32)), endpoint: readEndpoint(reader) }
    case 'removePeer':
    case 'keepalive':
    case 'clearSessions':
    case 'dropWaiting':
      return { op, peer: reader.u32le() }
    case 'allow':
    case 'disallow':
      return { op, peer: reader.u32le(), prefixes: readPrefixes(reader) }
    case 'setSession': {
      const peer = reader.u32le()
      const place = placeOf(reader)
      const role = roleOf(reader)
      if (place === 'previous') throw new Fault('engine.malformed', 'a session is set as current or next')
      return {
        op,
        peer,
        place,
        role,
        local: reader.u32le(),
        remote: reader.u32le(),
        born: fromNanoseconds(reader.u64le()),
        sendKey: new Uint8Array(reader.take(32)),
        receiveKey: new Uint8Array(reader.take(32)),
      }
    }
    case 'removeSession':
      return { op, local: reader.u32le() }
    case 'send': {
      const source = readEndpoint(reader)
      const destination = readEndpoint(reader)
      if (destination === undefined) throw new Fault('engine.malformed', 'a message without destination')
      return { op, source, destination, tos: reader.u8(), message: new Uint8Array(reader.rest()) }
    }
    case 'setSending':
      return {
        op,
        peer: reader.u32le(),
        spi: reader.u32le(),
        encapsulation: encapsulationOf(reader),
        port: reader.u16le(),
        outer: readOuter(reader),
        keys: readKeys(reader),
      }
    case 'setReceiving':
      return { op, peer: reader.u32le(), spi: reader.u32le(), outer: readOuter(reader), keys: readKeys(reader) }
    case 'removeAssociation': {
      const direction = directionOf(reader)
      return { op, direction, peer: reader.u32le(), spi: reader.u32le(), fingerprint: readFingerprint(reader) }
    }
    case 'setMacKey':
      return { op, macKey: new Uint8Array(reader.take(32)) }
    case 'dump':
    case 'counters':
    default:
      return { op }
  }
}

export function readPrefixes(reader: Reader): Cidr[] {
  const count = reader.u32le()
  if (count > reader.remaining / 18) {
    throw new Fault('engine.malformed', `${count} prefixes announced, ${reader.remaining} bytes left`)
  }
  return Array.from({ length: count }, () => readPrefix(reader))
}

export function placeOf(reader: Reader): Place {
  const at = reader.offset
  const place = PLACES[reader.u8()]
  if (place === undefined) throw new Fault('engine.malformed', `no place at offset ${at}`)
  return place
}

export function roleOf(reader: Reader): Role {
  const at = reader.offset
  const role = ROLES[reader.u8()]
  if (role === undefined) throw new Fault('engine.malformed', `no role at offset ${at}`)
  return role
}
