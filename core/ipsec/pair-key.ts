import { Fault } from '#core/fault/fault.ts'
import { fail, ok, type Result } from '#core/fault/result.ts'
import { type Ip, ipToBytes } from '#core/ip/address.ts'
import { MAX_KEY_BYTES } from './algorithm.ts'
import type { IpsecHash } from './hash.ts'
import type { IpsecKey } from './key.ts'

/** One end of an ESP tunnel. */
export interface PairEnd {
  /** Outer address of the ESP packets at this end. */
  readonly ip: Ip
  /** 36 characters, `8-4-4-4-12`, as the CiliumNode says (`spec.bootid`). */
  readonly bootId: string
}

/** Keys of one direction of one pair; the caller owns and overwrites them. */
export interface PairKeys {
  readonly encryptionKey: Uint8Array
  /** Empty for an AEAD. */
  readonly authenticationKey: Uint8Array
}

/**
 * The keys by which `source` sends to `destination`, and `destination` receives from it. Cilium's rule
 * (`computeNodeIPsecKey`, 1.14 to 1.20), each key field for itself, the salt of an AEAD as part of it:
 *
 *     first length(key) bytes of H(key ‖ source IP ‖ destination IP ‖ source boot id ‖ destination boot id)
 *     H = SHA-256 for keys of at most 32 bytes, else SHA-512
 *
 * Addresses have 4 or 16 bytes, boot ids are their text. The key id is not in it: the same key under two ids gives equal
 * keys. Key texts have no field beyond the 64 bytes of SHA-512.
 */
export function derivePairKeys(
  key: IpsecKey,
  source: PairEnd,
  destination: PairEnd,
  hash: IpsecHash,
): Result<PairKeys, Fault> {
  for (const end of [source, destination]) {
    if (isBootId(end.bootId)) continue
    return fail(
      new Fault('ipsec.pair.boot-id', `${end.ip} has no boot id of 36 characters, such as 8-4-4-4-12 hex digits`, {
        field: 'spec.bootid',
        remedy: 'Its agent publishes one as soon as it runs; until then there are no keys for it.',
      }),
    )
  }
  const ends = [source, destination].map(({ ip }) => reducedBytes(ip))
  if (sameBytes(ends[0] as Uint8Array, ends[1] as Uint8Array)) {
    return fail(
      new Fault('ipsec.pair.same', `both ends of the tunnel are ${source.ip}`, {
        field: 'status.addresses',
        remedy: 'Two nodes must not have the same address: correct the one that was added last.',
      }),
    )
  }
  const context = [...ends, ...[source, destination].map(({ bootId }) => new TextEncoder().encode(bootId))]
  const derive = (field: Uint8Array) => {
    if (field.length === 0) return new Uint8Array(0)
    if (field.length > MAX_KEY_BYTES) throw new TypeError(`no key of ${field.length} bytes can be derived`)
    const digest = field.length <= 32 ? hash.sha256(field, ...context) : hash.sha512(field, ...context)
    const derived = digest.slice(0, field.length)
    digest.fill(0)
    return derived
  }
  return ok({ encryptionKey: derive(key.encryptionKey), authenticationKey: derive(key.authenticationKey) })
}

/** Letters of either case: the text goes into the derivation as it is. */
function isBootId(text: string): boolean {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)
}

/** A v4-mapped address counts as the IPv4 address. */
function reducedBytes(ip: Ip): Uint8Array {
  const bytes = ipToBytes(ip)
  const mapped = bytes.length === 16 && bytes.every((byte, i) => i > 11 || byte === (i < 10 ? 0 : 0xff))
  return mapped ? bytes.subarray(12) : bytes
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i])
}
