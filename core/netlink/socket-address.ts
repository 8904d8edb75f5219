import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import { type Ip, ipFromBytes, ipToBytes } from '#core/ip/address.ts'
import { type Attribute, malformed, readBytes } from './attribute.ts'
import { AF_INET, AF_INET6, afOfIp } from './rtnetlink.ts'

export interface SocketAddress {
  readonly ip: Ip
  readonly port: number
}

/** struct sockaddr_in (16 bytes) or sockaddr_in6 (28 bytes), as attributes carry them. */
export function socketAddressBytes({ ip, port }: SocketAddress): Uint8Array<ArrayBuffer> {
  const af = afOfIp(ip)
  const writer = new Writer(28).u16le(af).u16be(port)
  if (af === AF_INET) writer.put(ipToBytes(ip)).zeros(8)
  // flow label before, scope behind the address
  else writer.zeros(4).put(ipToBytes(ip)).zeros(4)
  return writer.finish()
}

/** Undefined for a family that is not IP. */
export function readSocketAddress(attribute: Attribute): SocketAddress | undefined {
  const bytes = readBytes(attribute)
  const reader = new Reader(bytes)
  if (bytes.length < 2) throw malformed(`attribute ${attribute.type} is no socket address`, attribute.offset)
  const af = reader.u16le()
  if (af !== AF_INET && af !== AF_INET6) return undefined
  const size = af === AF_INET ? 16 : 28
  if (bytes.length !== size) {
    throw malformed(`attribute ${attribute.type} has ${bytes.length} bytes, not ${size}`, attribute.offset)
  }
  const port = reader.u16be()
  if (af === AF_INET6) reader.skip(4)
  return { ip: ipFromBytes(reader.take(af === AF_INET ? 4 : 16)), port }
}
