import type { XfrmCrypto } from '#core/netlink/xfrm-algorithm.ts'
import type { IpsecHash } from './hash.ts'
import type { IpsecKey } from './key.ts'
import type { PairKeys } from './pair-key.ts'
import { type AlgorithmNames, algorithmName, engineFingerprint, supportedInUserspace } from './userspace.ts'

/** Derived keys of `key` as a state of XFRM has them. The bytes are `pair`'s own, not copied. */
export function xfrmCrypto(key: IpsecKey, pair: PairKeys): XfrmCrypto {
  const encryption = { name: key.encryptionAlgorithm, key: pair.encryptionKey }
  if (key.authenticationAlgorithm === undefined) return { aead: { ...encryption, icvBytes: key.icvBytes } }
  const authentication = { name: key.authenticationAlgorithm, key: pair.authenticationKey, icvBytes: key.icvBytes }
  return { encryption, authentication }
}

/**
 * By which derived keys are named: the engine's name of them where the engine has the algorithm, so that both ends of a
 * mixed pair say the same. Else of names and keys; the ICV is left out, since the kernel puts its own where none is asked for.
 */
export function xfrmFingerprint(crypto: XfrmCrypto, hash: IpsecHash): string {
  const { encryption, authentication, icvBytes } = partsOf(crypto)
  const support = supportedInUserspace(namesOf(crypto))
  if (support.supported) {
    const keys = { encryption: encryption.key, authentication: authentication?.key ?? new Uint8Array(0) }
    return engineFingerprint({ algorithm: support.algorithm, icv: icvBytes, ...keys }, hash)
  }
  const names = new TextEncoder().encode(
    `${encryption.name}\0${authentication?.name ?? ''}\0${encryption.key.length}\0`,
  )
  return hash
    .sha256(names, encryption.key, authentication?.key ?? new Uint8Array(0))
    .subarray(0, 8)
    .toHex()
}

/** `rfc4106(gcm(aes))`, or `hmac(sha256),cbc(aes)`. */
export function xfrmAlgorithmName(crypto: XfrmCrypto): string {
  return algorithmName(namesOf(crypto))
}

function namesOf(crypto: XfrmCrypto): AlgorithmNames {
  const { encryption, authentication, icvBytes } = partsOf(crypto)
  return { encryptionAlgorithm: encryption.name, authenticationAlgorithm: authentication?.name, icvBytes }
}

export function wipeCrypto(crypto: XfrmCrypto): void {
  const { encryption, authentication } = partsOf(crypto)
  encryption.key.fill(0)
  authentication?.key.fill(0)
}

function partsOf(crypto: XfrmCrypto) {
  if ('aead' in crypto) return { encryption: crypto.aead, authentication: undefined, icvBytes: crypto.aead.icvBytes }
  const { encryption, authentication } = crypto
  return { encryption, authentication, icvBytes: authentication?.icvBytes ?? 0 }
}
