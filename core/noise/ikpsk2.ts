import { DH_BYTES, type DhKey, type NoiseCrypto, TAG_BYTES } from './crypto.ts'
import { SymmetricState } from './symmetric-state.ts'

/**
 * Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s: the handshake of WireGuard's paper, section 5.4, and nothing else of it.
 *
 *     <- s
 *     ...
 *     -> e, es, s, ss, payload
 *     <- e, ee, se, psk, payload
 *
 * Every step returns the object of the next step, which has only the methods that may follow: a wrong order does not
 * compile. What comes from outside and fails (a wrong tag, a point of low order, a wrong length) gives undefined.
 */

const PROTOCOL_NAME = new TextEncoder().encode('Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s')

/** How a party of the handshake knows itself: the prologue is WireGuard's IDENTIFIER, or a test vector's. */
export interface Identity {
  readonly prologue: Uint8Array
  readonly static: DhKey
}

/** The static key of the other side, and what it gives with ours: computed once per peer. */
export interface Remote {
  readonly publicKey: Uint8Array
  readonly staticStatic: Uint8Array
}

/** Keys of the session, as seen from the side that holds them; `hash` binds the session to the handshake. */
export interface TransportKeys {
  readonly send: Uint8Array
  readonly receive: Uint8Array
  readonly hash: Uint8Array
}

const STATIC_END = DH_BYTES + DH_BYTES + TAG_BYTES

/** First step of the initiator. `ephemeral` is fresh and belongs to the handshake from now on. */
export function writeInitiation(
  crypto: NoiseCrypto,
  identity: Identity,
  remote: Remote,
  ephemeral: DhKey,
  payload: Uint8Array,
): { message: Uint8Array; next: InitiationWritten } | undefined {
  const state = begin(crypto, identity.prologue, remote.publicKey)
  mixEphemeral(state, ephemeral.publicKey)
  if (!mixDh(state, ephemeral, remote.publicKey)) return undefined
  const encryptedStatic = state.encryptAndHash(identity.static.publicKey)
  state.mixKey(remote.staticStatic)
  const message = concat(ephemeral.publicKey, encryptedStatic, state.encryptAndHash(payload))
  return { message, next: new InitiationWritten(state, identity.static, ephemeral) }
}

export class InitiationWritten {
  readonly #state: SymmetricState
  readonly #static: DhKey
  readonly #ephemeral: DhKey

  constructor(state: SymmetricState, own: DhKey, ephemeral: DhKey) {
    this.#state = state
    this.#static = own
    this.#ephemeral = ephemeral
  }

  /** A forged message leaves this step as it was: the right one may still come. */
  readResponse(message: Uint8Array, psk: Uint8Array): { payload: Uint8Array; keys: TransportKeys } | undefined {
    if (message.length < DH_BYTES + TAG_BYTES) return undefined
    const state = this.#state.clone()
    const remoteEphemeral = message.subarray(0, DH_BYTES)
    mixEphemeral(state, remoteEphemeral)
    const agreed = mixDh(state, this.#ephemeral, remoteEphemeral) && mixDh(state, this.#static, remoteEphemeral)
    if (agreed) state.mixKeyAndHash(psk)
    const payload = agreed ? state.decryptAndHash(message.subarray(DH_BYTES)) : undefined
    if (payload === undefined) {
      state.wipe()
      return undefined
    }
    const hash = state.hash
    const [send, receive] = state.split()
    this.wipe()
    return { payload, keys: { send, receive, hash } }
  }

  /** Ends the handshake. */
  wipe(): void {
    this.#state.wipe()
  }
}

/** First step of the responder: who is it? */
export function readInitiation(crypto: NoiseCrypto, identity: Identity, message: Uint8Array): StaticRead | undefined {
  if (message.length < STATIC_END + TAG_BYTES) return undefined
  const state = begin(crypto, identity.prologue, identity.static.publicKey)
  const remoteEphemeral = new Uint8Array(message.subarray(0, DH_BYTES))
  mixEphemeral(state, remoteEphemeral)
  const remoteStatic = mixDh(state, identity.static, remoteEphemeral)
    ? state.decryptAndHash(message.subarray(DH_BYTES, STATIC_END))
    : undefined
  if (remoteStatic === undefined) {
    state.wipe()
    return undefined
  }
  return new StaticRead(state, remoteStatic, remoteEphemeral, new Uint8Array(message.subarray(STATIC_END)))
}

export class StaticRead {
  /** Claimed, not proved: only {@link readPayload} proves it. */
  readonly remoteStatic: Uint8Array
  readonly #state: SymmetricState
  readonly #remoteEphemeral: Uint8Array
  readonly #encryptedPayload: Uint8Array

  constructor(state: SymmetricState, remoteStatic: Uint8Array, remoteEphemeral: Uint8Array, payload: Uint8Array) {
    this.#state = state
    this.remoteStatic = remoteStatic
    this.#remoteEphemeral = remoteEphemeral
    this.#encryptedPayload = payload
  }

  readPayload(staticStatic: Uint8Array): { payload: Uint8Array; next: InitiationRead } | undefined {
    this.#state.mixKey(staticStatic)
    const payload = this.#state.decryptAndHash(this.#encryptedPayload)
    if (payload === undefined) {
      this.wipe()
      return undefined
    }
    return { payload, next: new InitiationRead(this.#state, this.remoteStatic, this.#remoteEphemeral) }
  }

  wipe(): void {
    this.#state.wipe()
  }
}

export class InitiationRead {
  readonly #state: SymmetricState
  readonly #remoteStatic: Uint8Array
  readonly #remoteEphemeral: Uint8Array

  constructor(state: SymmetricState, remoteStatic: Uint8Array, remoteEphemeral: Uint8Array) {
    this.#state = state
    this.#remoteStatic = remoteStatic
    this.#remoteEphemeral = remoteEphemeral
  }

  writeResponse(
    ephemeral: DhKey,
    psk: Uint8Array,
    payload: Uint8Array,
  ): { message: Uint8Array; keys: TransportKeys } | undefined {
    const state = this.#state
    mixEphemeral(state, ephemeral.publicKey)
    if (!mixDh(state, ephemeral, this.#remoteEphemeral) || !mixDh(state, ephemeral, this.#remoteStatic)) {
      state.wipe()
      return undefined
    }
    state.mixKeyAndHash(psk)
    const message = concat(ephemeral.publicKey, state.encryptAndHash(payload))
    const hash = state.hash
    const [receive, send] = state.split()
    return { message, keys: { send, receive, hash } }
  }

  wipe(): void {
    this.#state.wipe()
  }
}

/** The pre-message pattern: the responder's static key is known. */
function begin(crypto: NoiseCrypto, prologue: Uint8Array, responderStatic: Uint8Array): SymmetricState {
  const state = SymmetricState.start(crypto, PROTOCOL_NAME, prologue)
  state.mixHash(responderStatic)
  return state
}

/** Token `e`: in a handshake with a pre-shared key it is mixed into the chaining key as well (section 9.2). */
function mixEphemeral(state: SymmetricState, publicKey: Uint8Array): void {
  state.mixHash(publicKey)
  state.mixKey(publicKey)
}

function mixDh(state: SymmetricState, key: DhKey, remote: Uint8Array): boolean {
  const shared = key.exchange(remote)
  if (shared === undefined) return false
  state.mixKey(shared)
  shared.fill(0)
  return true
}

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
