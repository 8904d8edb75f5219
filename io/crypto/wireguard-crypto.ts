import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type KeyObject,
} from 'node:crypto'
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js'
import type { DhKey, WireguardCrypto } from '#core/noise/crypto.ts'
import { blake2s, hkdf } from './blake2s.ts'

const MAC_BYTES = 16

/**
 * The crypto port: X25519 and ChaCha20-Poly1305 of node:crypto, a BLAKE2s of our own, and XChaCha20-Poly1305 of noble, which
 * node:crypto lacks.
 *
 * Private keys become OpenSSL objects: those overwrite themselves when they are collected.
 */
export const wireguardCrypto: WireguardCrypto = {
  importKey: (privateKey) => new OpensslKey(privateKey),

  hash: (...parts) => blake2s(parts),

  derive: hkdf,

  mac: (key, ...parts) => blake2s(parts, MAC_BYTES, key),

  seal(key, counter, plaintext, additional) {
    const cipher = createCipheriv('chacha20-poly1305', key, nonceOf(counter), { authTagLength: 16 })
    cipher.setAAD(additional, { plaintextLength: plaintext.length })
    return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()])
  },

  open(key, counter, ciphertext, additional) {
    const end = ciphertext.length - 16
    if (end < 0) return undefined
    const decipher = createDecipheriv('chacha20-poly1305', key, nonceOf(counter), { authTagLength: 16 })
    decipher.setAAD(additional, { plaintextLength: end })
    decipher.setAuthTag(ciphertext.subarray(end))
    const plaintext = decipher.update(ciphertext.subarray(0, end))
    try {
      decipher.final()
    } catch {
      plaintext.fill(0)
      return undefined
    }
    return plaintext
  },

  sealExtended: (key, nonce, plaintext, additional) => xchacha20poly1305(key, nonce, additional).encrypt(plaintext),

  openExtended(key, nonce, ciphertext, additional) {
    try {
      return xchacha20poly1305(key, nonce, additional).decrypt(ciphertext)
    } catch {
      return undefined
    }
  },
}

class OpensslKey implements DhKey {
  readonly publicKey: Uint8Array
  readonly #key: KeyObject

  constructor(privateKey: Uint8Array) {
    if (privateKey.length !== 32) throw new TypeError(`a private key has 32 bytes, not ${privateKey.length}`)
    this.#key = createPrivateKey({ key: Buffer.from(privateKey), format: 'raw-private', asymmetricKeyType: 'x25519' })
    this.publicKey = createPublicKey(this.#key).export({ format: 'raw-public' })
  }

  exchange(remote: Uint8Array): Uint8Array | undefined {
    if (remote.length !== 32) return undefined
    const publicKey = createPublicKey({ key: Buffer.from(remote), format: 'raw-public', asymmetricKeyType: 'x25519' })
    try {
      return diffieHellman({ privateKey: this.#key, publicKey })
    } catch {
      // OpenSSL itself refuses an all-zero result, and nothing else can fail here
      return undefined
    }
  }
}

function nonceOf(counter: bigint): Uint8Array {
  const nonce = new Uint8Array(12)
  new DataView(nonce.buffer).setBigUint64(4, counter, true)
  return nonce
}
