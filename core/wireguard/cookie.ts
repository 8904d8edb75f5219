import { equalBytes } from '#core/bytes/text.ts'
import type { EngineEndpoint } from '#core/engine/endpoint.ts'
import { ipToBytes } from '#core/ip/address.ts'
import type { CookieCrypto } from '#core/noise/crypto.ts'
import type { Entropy } from './clock.ts'
import { COOKIE_LATENCY, COOKIE_SECRET_MAX_AGE, LABEL_COOKIE, LABEL_MAC1 } from './constants.ts'
import { buildCookieReply, MAC_BYTES } from './message.ts'

/**
 * mac1, mac2 and cookies (paper, section 5.4.4 and 5.4.7). mac1 proves that the sender knows whom it speaks to and is checked
 * before any Diffie-Hellman; mac2 proves, under load, that the sender can receive at its address.
 */

const utf8 = new TextEncoder()
const NONCE_BYTES = 24

/** The receiving side: one per private key. */
export class CookieChecker {
  readonly #crypto: CookieCrypto
  readonly #random: Entropy
  /** For the engine, which checks mac1 as well: what is forged is no work for this process. */
  readonly mac1Key: Uint8Array
  readonly #cookieKey: Uint8Array
  #secret: Uint8Array | undefined
  #secretBorn = 0

  constructor(crypto: CookieCrypto, random: Entropy, publicKey: Uint8Array) {
    this.#crypto = crypto
    this.#random = random
    this.mac1Key = crypto.hash(utf8.encode(LABEL_MAC1), publicKey)
    this.#cookieKey = crypto.hash(utf8.encode(LABEL_COOKIE), publicKey)
  }

  checkMac1(message: Uint8Array): boolean {
    const end = message.length - 2 * MAC_BYTES
    const mac = this.#crypto.mac(this.mac1Key, message.subarray(0, end))
    return equalBytes(mac, message.subarray(end, end + MAC_BYTES))
  }

  checkMac2(now: number, message: Uint8Array, source: EngineEndpoint): boolean {
    if (this.#secret === undefined || now - this.#secretBorn >= COOKIE_SECRET_MAX_AGE) return false
    const end = message.length - MAC_BYTES
    const mac = this.#crypto.mac(this.#cookieFor(this.#secret, source), message.subarray(0, end))
    return equalBytes(mac, message.subarray(end))
  }

  /** A cookie reply to a message whose mac1 was right; `sender` is the index in it. */
  reply(now: number, message: Uint8Array, sender: number, source: EngineEndpoint): Uint8Array {
    if (this.#secret === undefined || now - this.#secretBorn >= COOKIE_SECRET_MAX_AGE) {
      this.#secret = this.#random(32)
      this.#secretBorn = now
    }
    const nonce = this.#random(NONCE_BYTES)
    const mac1 = message.subarray(message.length - 2 * MAC_BYTES, message.length - MAC_BYTES)
    const cookie = this.#cookieFor(this.#secret, source)
    return buildCookieReply(sender, nonce, this.#crypto.sealExtended(this.#cookieKey, nonce, cookie, mac1))
  }

  #cookieFor(secret: Uint8Array, source: EngineEndpoint): Uint8Array {
    return this.#crypto.mac(secret, ipToBytes(source.ip), Uint8Array.of(source.port >> 8, source.port & 255))
  }
}

/** The sending side: one per peer. */
export class MacSigner {
  readonly #crypto: CookieCrypto
  readonly #mac1Key: Uint8Array
  readonly #cookieKey: Uint8Array
  #lastMac1: Uint8Array | undefined
  #cookie: Uint8Array | undefined
  #cookieBorn = 0

  constructor(crypto: CookieCrypto, remotePublicKey: Uint8Array) {
    this.#crypto = crypto
    this.#mac1Key = crypto.hash(utf8.encode(LABEL_MAC1), remotePublicKey)
    this.#cookieKey = crypto.hash(utf8.encode(LABEL_COOKIE), remotePublicKey)
  }

  /** Fills in mac1, and mac2 while there is a cookie. */
  sign(now: number, message: Uint8Array): void {
    const end = message.length - 2 * MAC_BYTES
    this.#lastMac1 = this.#crypto.mac(this.#mac1Key, message.subarray(0, end))
    message.set(this.#lastMac1, end)
    if (this.#cookie !== undefined && now - this.#cookieBorn < COOKIE_SECRET_MAX_AGE - COOKIE_LATENCY) {
      message.set(this.#crypto.mac(this.#cookie, message.subarray(0, end + MAC_BYTES)), end + MAC_BYTES)
    }
  }

  /** False when it is no answer to the last message that was signed. */
  handleReply(now: number, nonce: Uint8Array, sealed: Uint8Array): boolean {
    if (this.#lastMac1 === undefined) return false
    const cookie = this.#crypto.openExtended(this.#cookieKey, nonce, sealed, this.#lastMac1)
    if (cookie === undefined) return false
    this.#lastMac1 = undefined
    this.#cookie = cookie
    this.#cookieBorn = now
    return true
  }
}
