import { createHash } from 'node:crypto'
import type { IpsecHash } from '#core/ipsec/hash.ts'

/** Parts are given to OpenSSL one by one: no joined copy of a key is left behind. */
export const ipsecHash: IpsecHash = {
  sha256: (...parts) => digest('sha256', parts),
  sha512: (...parts) => digest('sha512', parts),
}

function digest(name: 'sha256' | 'sha512', parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash(name)
  for (const part of parts) hash.update(part)
  return new Uint8Array(hash.digest())
}
