import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import { type Attribute, type AttributeWriter, malformed } from './attribute.ts'
import { XFRMA_ALG_AEAD, XFRMA_ALG_AUTH, XFRMA_ALG_AUTH_TRUNC, XFRMA_ALG_CRYPT } from './xfrm.ts'

/** CRYPTO_MAX_ALG_NAME, the closing zero included. */
const NAME_BYTES = 64

/** A name as Linux has it and its key, which is secret; the kernel shows it only to who may set it. */
interface XfrmAlgorithm {
  /** Such as `cbc(aes)`. */
  readonly name: string
  readonly key: Uint8Array
}

/** With a check value of that many bytes on each packet. */
interface XfrmIntegrity extends XfrmAlgorithm {
  readonly icvBytes: number
}

/** Either an AEAD (its salt at the end of the key), or encryption and integrity apart. */
export type XfrmCrypto =
  | { readonly aead: XfrmIntegrity }
  | { readonly encryption: XfrmAlgorithm; readonly authentication?: XfrmIntegrity }

export function putCrypto(to: AttributeWriter, crypto: XfrmCrypto): void {
  if ('aead' in crypto) {
    to.bytes(XFRMA_ALG_AEAD, encode(crypto.aead))
    return
  }
  if (crypto.authentication !== undefined) to.bytes(XFRMA_ALG_AUTH_TRUNC, encode(crypto.authentication))
  to.bytes(XFRMA_ALG_CRYPT, encode(crypto.encryption))
}

/** struct xfrm_algo_aead and xfrm_algo_auth: name, bits of the key, bits of the check value, key; xfrm_algo lacks the third. */
function encode(algorithm: XfrmAlgorithm & { readonly icvBytes?: number }): Uint8Array<ArrayBuffer> {
  const name = new TextEncoder().encode(algorithm.name)
  if (name.length >= NAME_BYTES) throw new TypeError(`the algorithm's name ${algorithm.name} is too long`)
  const writer = new Writer(NAME_BYTES + 8 + algorithm.key.length)
  writer.put(name).zeros(NAME_BYTES - name.length)
  writer.u32le(algorithm.key.length * 8)
  if (algorithm.icvBytes !== undefined) writer.u32le(algorithm.icvBytes * 8)
  return writer.put(algorithm.key).finish()
}

/** What the attributes of a state said, until all are read. */
export interface CryptoParts {
  aead?: XfrmIntegrity
  encryption?: XfrmAlgorithm
  authentication?: XfrmIntegrity
}

/** Whether the attribute is one of algorithms. */
export function readCrypto(attribute: Attribute, into: CryptoParts): boolean {
  switch (attribute.type) {
    case XFRMA_ALG_AEAD:
      into.aead = decodeIntegrity(attribute)
      return true
    case XFRMA_ALG_AUTH_TRUNC:
      into.authentication = decodeIntegrity(attribute)
      return true
    case XFRMA_ALG_CRYPT:
      into.encryption = decode(attribute, new Reader(attribute.reader.rest()))
      return true
    // the same as the one with a length, for programs of before 2009; the kernel sends both
    case XFRMA_ALG_AUTH:
      return true
    default:
      return false
  }
}

/** Undefined for a state without encryption, such as AH's or IPComp's. */
export function cryptoOf({ aead, encryption, authentication }: CryptoParts): XfrmCrypto | undefined {
  if (aead !== undefined) return { aead }
  if (encryption === undefined) return undefined
  return { encryption, ...(authentication === undefined ? {} : { authentication }) }
}

function decodeIntegrity(attribute: Attribute): XfrmIntegrity {
  const reader = new Reader(attribute.reader.bytes, attribute.reader.offset, attribute.reader.end)
  reader.skip(NAME_BYTES + 4)
  const icvBits = reader.u32le()
  return { ...decode(attribute, attribute.reader, 4), icvBytes: icvBits / 8 }
}

function decode(attribute: Attribute, reader: Reader, between = 0): XfrmAlgorithm {
  const bytes = reader.take(NAME_BYTES)
  const end = bytes.indexOf(0)
  if (end < 0) throw malformed(`attribute ${attribute.type}: the algorithm's name has no end`, attribute.offset)
  const keyBytes = Math.ceil(reader.u32le() / 8)
  reader.skip(between)
  if (keyBytes !== reader.remaining) {
    throw malformed(
      `attribute ${attribute.type} says a key of ${keyBytes} bytes, has ${reader.remaining}`,
      attribute.offset,
    )
  }
  return { name: new TextDecoder().decode(bytes.subarray(0, end)), key: reader.rest().slice() }
}
