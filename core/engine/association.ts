import type { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import { Fault } from '#core/fault/fault.ts'
import { familyOf, type Ip } from '#core/ip/address.ts'
import { readAddress, writeAddress } from './endpoint.ts'

/** One direction of one pair, as the engine has it (docs/protocol/engine.md, "Devices of IPsec"). */
export interface DumpedAssociation {
  readonly direction: Direction
  readonly peer: number
  readonly spi: number
  readonly encapsulation: Encapsulation
  readonly outer: Outer
  readonly algorithm: EspAlgorithm
  /** Bytes. */
  readonly icv: number
  /** Of the derived key, 16 hexadecimal digits: the first 8 bytes of SHA-256 over {@link encodeKeys}. */
  readonly fingerprint: string
  /** Out: last used; in: highest accepted; 0: none yet. */
  readonly sequence: bigint
  readonly packets: bigint
  readonly bytes: bigint
}

export type Direction = 'in' | 'out'

/** `udp`: ESP in UDP (RFC 3948); `none`: IP protocol 50. */
export type Encapsulation = 'none' | 'udp'

/** RFC 4106, RFC 7634, RFC 3602 with RFC 4868. */
export type EspAlgorithm =
  | 'aes-gcm'
  | 'chacha20-poly1305'
  | 'aes-cbc-hmac-sha256'
  | 'aes-cbc-hmac-sha384'
  | 'aes-cbc-hmac-sha512'

/** Addresses of the ESP packets, both of one family. */
export interface Outer {
  readonly source: Ip
  readonly destination: Ip
}

/** Derived keys of one direction of one pair. */
export interface EngineKeys {
  readonly algorithm: EspAlgorithm
  /** Bytes. */
  readonly icv: number
  /** Of an AEAD with its 4 bytes of salt at the end. */
  readonly encryption: Uint8Array
  /** Empty for an AEAD. */
  readonly authentication: Uint8Array
}

const DIRECTIONS: readonly (Direction | undefined)[] = [undefined, 'in', 'out']
const ENCAPSULATIONS: readonly Encapsulation[] = ['none', 'udp']
const ALGORITHMS: readonly (EspAlgorithm | undefined)[] = [
  undefined,
  'aes-gcm',
  'chacha20-poly1305',
  'aes-cbc-hmac-sha256',
  'aes-cbc-hmac-sha384',
  'aes-cbc-hmac-sha512',
]

/** `keys` of the protocol: what is sent, and what fingerprints are made over. */
export function encodeKeys(keys: EngineKeys): Uint8Array<ArrayBuffer> {
  const writer = new Writer(4 + keys.encryption.length + keys.authentication.length)
  writer.u8(ALGORITHMS.indexOf(keys.algorithm)).u8(keys.icv)
  for (const key of [keys.encryption, keys.authentication]) {
    if (key.length > 255) throw new TypeError(`a key of ${key.length} bytes has no length in the protocol`)
    writer.u8(key.length).put(key)
  }
  return writer.finish()
}

export function readKeys(reader: Reader): EngineKeys {
  const algorithm = algorithmOf(reader)
  const icv = reader.u8()
  const encryption = new Uint8Array(reader.take(reader.u8()))
  return { algorithm, icv, encryption, authentication: new Uint8Array(reader.take(reader.u8())) }
}

/** 33 bytes. */
export function writeOuter(writer: Writer, { source, destination }: Outer): void {
  const family = familyOf(source)
  if (familyOf(destination) !== family) throw new TypeError(`${source} and ${destination} are of two families`)
  writeAddress(writer.u8(family), source)
  writeAddress(writer, destination)
}

export function readOuter(reader: Reader): Outer {
  const at = reader.offset
  const family = reader.u8()
  const source = readAddress(reader, family)
  const destination = readAddress(reader, family)
  if (source === undefined || destination === undefined) {
    throw new Fault('engine.malformed', `no outer addresses at offset ${at}`)
  }
  return { source, destination }
}

export function writeFingerprint(writer: Writer, fingerprint: string): void {
  const bytes = Uint8Array.fromHex(fingerprint)
  if (bytes.length !== 8) throw new TypeError(`a fingerprint has 16 digits, not ${fingerprint.length}`)
  writer.put(bytes)
}

export function readFingerprint(reader: Reader): string {
  return reader.take(8).toHex()
}

/** What follows `request` in an ASSOCIATION. */
export function writeAssociation(writer: Writer, it: DumpedAssociation): void {
  writer.u8(directionCode(it.direction)).u32le(it.peer).u32le(it.spi).u8(encapsulationCode(it.encapsulation))
  writeOuter(writer, it.outer)
  writer.u8(ALGORITHMS.indexOf(it.algorithm)).u8(it.icv)
  writeFingerprint(writer, it.fingerprint)
  writer.u64le(it.sequence).u64le(it.packets).u64le(it.bytes)
}

export function readAssociation(reader: Reader): DumpedAssociation {
  return {
    direction: directionOf(reader),
    peer: reader.u32le(),
    spi: reader.u32le(),
    encapsulation: encapsulationOf(reader),
    outer: readOuter(reader),
    algorithm: algorithmOf(reader),
    icv: reader.u8(),
    fingerprint: readFingerprint(reader),
    sequence: reader.u64le(),
    packets: reader.u64le(),
    bytes: reader.u64le(),
  }
}

export function directionCode(direction: Direction): number {
  return DIRECTIONS.indexOf(direction)
}

export function encapsulationCode(encapsulation: Encapsulation): number {
  return ENCAPSULATIONS.indexOf(encapsulation)
}

export function directionOf(reader: Reader): Direction {
  return known(DIRECTIONS, 'direction', reader)
}

export function encapsulationOf(reader: Reader): Encapsulation {
  return known(ENCAPSULATIONS, 'encapsulation', reader)
}

function algorithmOf(reader: Reader): EspAlgorithm {
  return known(ALGORITHMS, 'algorithm', reader)
}

function known<T>(names: readonly (T | undefined)[], what: string, reader: Reader): T {
  const at = reader.offset
  const name = names[reader.u8()]
  if (name === undefined) throw new Fault('engine.malformed', `no ${what} at offset ${at}`)
  return name
}
