import { randomBytes } from 'node:crypto'
import { requireIp } from '#core/ip/address.ts'
import type { DhKey } from '#core/noise/crypto.ts'
import { type Identity, type InitiationWritten, writeInitiation } from '#core/noise/ikpsk2.ts'
import { IDENTIFIER } from '#core/wireguard/constants.ts'
import { MacSigner } from '#core/wireguard/cookie.ts'
import { buildInitiation, parseMessage } from '#core/wireguard/message.ts'
import { tai64nAfter, tai64nOf } from '#core/wireguard/tai64n.ts'
import { wireguardCrypto as crypto } from '#io/crypto/wireguard-crypto.ts'

const PROLOGUE = new TextEncoder().encode(IDENTIFIER)
const NO_PSK = new Uint8Array(32)

/** One of many initiators: its keys, its handshake in hand, and what came of it. */
export class Initiator {
  readonly #identity: Identity
  readonly #remote: { readonly publicKey: Uint8Array; readonly staticStatic: Uint8Array }
  readonly #signer: MacSigner
  readonly #local: number
  #label: Uint8Array = new Uint8Array(12)
  #state: InitiationWritten | undefined
  #answer: Uint8Array | undefined

  /** `local`: its session index, 32 bits. Throws for a responder's key of low order. */
  constructor(privateKey: Uint8Array, responder: Uint8Array, local: number) {
    const own: DhKey = crypto.importKey(privateKey)
    const staticStatic = own.exchange(responder)
    if (staticStatic === undefined) throw new TypeError('no secret can be agreed with the public key of the responder')
    this.#identity = { prologue: PROLOGUE, static: own }
    this.#remote = { publicKey: responder, staticStatic }
    this.#signer = new MacSigner(crypto, responder)
    this.#local = local
  }

  /** A new initiation, later than all before; with mac2 when the responder has given a cookie. `now`: milliseconds. */
  initiation(now: { readonly monotonic: number; readonly unix: number }): Uint8Array {
    const clock = tai64nOf(now.unix)
    this.#label = Buffer.compare(clock, this.#label) > 0 ? clock : tai64nAfter(this.#label)
    const ephemeral = crypto.importKey(new Uint8Array(randomBytes(32)))
    const written = writeInitiation(crypto, this.#identity, this.#remote, ephemeral, this.#label)
    if (written === undefined) throw new TypeError('no initiation can be written to that public key')
    this.#state = written.next
    this.#answer = undefined
    const bytes = buildInitiation(this.#local, written.message)
    this.#signer.sign(now.monotonic, bytes)
    return bytes
  }

  /** What it is: an answer is only kept here, {@link verified} looks into it when time does not count any more. */
  take(monotonic: number, bytes: Uint8Array): 'answer' | 'cookie' | 'other' {
    const message = parseMessage(bytes)
    if (message?.type === 'response' && message.receiver === this.#local && this.#answer === undefined) {
      this.#answer = new Uint8Array(message.noise)
      return 'answer'
    }
    if (message?.type !== 'cookie' || message.receiver !== this.#local) return 'other'
    return this.#signer.handleReply(monotonic, message.nonce, message.cookie) ? 'cookie' : 'other'
  }

  /** The responder has proved that it holds its key, and both have the same session. */
  verified(): boolean {
    return this.#answer !== undefined && this.#state?.readResponse(this.#answer, NO_PSK) !== undefined
  }
}

/** Address of the one with that number, 10.77.0.1 and on: each has its own, as nodes have. */
export function addressOf(index: number): string {
  return requireIp(`10.77.${(index + 1) >> 8}.${(index + 1) & 255}`, 'initiator')
}

export const CROWD_NETWORK = '10.77.0.0/16'
