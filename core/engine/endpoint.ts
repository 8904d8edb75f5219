import type { Reader } from '#core/bytes/reader.ts'
import type { Writer } from '#core/bytes/writer.ts'
import { Fault } from '#core/fault/fault.ts'
import { type Family, familyOf, type Ip, ipFromBytes, ipToBytes } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, cidrOf, lengthOf, networkOf } from '#core/ip/cidr.ts'

/** Where a peer is. `scope` is the interface index of a link-local address, else 0. */
export interface EngineEndpoint {
  readonly ip: Ip
  readonly port: number
  readonly scope: number
}

export function sameEndpoint(a: EngineEndpoint | undefined, b: EngineEndpoint | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && a.ip === b.ip && a.port === b.port && a.scope === b.scope)
}

/** 23 bytes; undefined is family 0. */
export function writeEndpoint(writer: Writer, endpoint: EngineEndpoint | undefined): void {
  if (endpoint === undefined) {
    writer.zeros(23)
    return
  }
  writer.u8(familyOf(endpoint.ip)).u16le(endpoint.port).u32le(endpoint.scope)
  writeAddress(writer, endpoint.ip)
}

export function readEndpoint(reader: Reader): EngineEndpoint | undefined {
  const family = reader.u8()
  const port = reader.u16le()
  const scope = reader.u32le()
  const ip = readAddress(reader, family)
  return ip === undefined ? undefined : { ip, port, scope }
}

/** 18 bytes. */
export function writePrefix(writer: Writer, prefix: Cidr): void {
  writer.u8(cidrFamily(prefix)).u8(lengthOf(prefix))
  writeAddress(writer, networkOf(prefix))
}

export function readPrefix(reader: Reader): Cidr {
  const at = reader.offset
  const family = reader.u8()
  const length = reader.u8()
  const ip = readAddress(reader, family)
  if (ip === undefined || length > (family === 4 ? 32 : 128)) {
    throw new Fault('engine.malformed', `no prefix at offset ${at}: family ${family}, length ${length}`)
  }
  return cidrOf(ip, length)
}

/** 16 bytes; IPv4 takes the first four. */
export function writeAddress(writer: Writer, ip: Ip): void {
  const bytes = ipToBytes(ip)
  writer.put(bytes).zeros(16 - bytes.length)
}

/** Undefined for family 0. */
export function readAddress(reader: Reader, family: number): Ip | undefined {
  const at = reader.offset
  const bytes = reader.take(16)
  if (family === 0) return undefined
  if (!isFamily(family)) throw new Fault('engine.malformed', `no address family at offset ${at}: ${family}`)
  return ipFromBytes(bytes.subarray(0, family === 4 ? 4 : 16))
}

function isFamily(family: number): family is Family {
  return family === 4 || family === 6
}
