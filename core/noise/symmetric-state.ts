import { HASH_BYTES, type NoiseCrypto } from './crypto.ts'

const EMPTY = new Uint8Array(0)

/**
 * SymmetricState of the Noise specification, revision 34, section 5.2, with its own names.
 *
 * In the pattern IKpsk2 every key encrypts exactly once, so there is no counter: a key is dropped after its use.
 */
export class SymmetricState {
  readonly #crypto: NoiseCrypto
  #chainingKey: Uint8Array
  #hash: Uint8Array
  #key: Uint8Array | undefined

  private constructor(crypto: NoiseCrypto, chainingKey: Uint8Array, hash: Uint8Array) {
    this.#crypto = crypto
    this.#chainingKey = chainingKey
    this.#hash = hash
  }

  /** InitializeSymmetric, for protocol names longer than a hash; then the prologue is mixed in. */
  static start(crypto: NoiseCrypto, protocolName: Uint8Array, prologue: Uint8Array): SymmetricState {
    if (protocolName.length <= HASH_BYTES) throw new TypeError('a short protocol name is padded, not hashed')
    const construction = crypto.hash(protocolName)
    const state = new SymmetricState(crypto, construction, construction)
    state.mixHash(prologue)
    return state
  }

  /** The handshake hash `h`. */
  get hash(): Uint8Array {
    return this.#hash
  }

  mixHash(data: Uint8Array): void {
    this.#hash = this.#crypto.hash(this.#hash, data)
  }

  mixKey(input: Uint8Array): void {
    const [chainingKey, key] = this.#crypto.derive(this.#chainingKey, input, 2)
    this.#advance(chainingKey, key)
  }

  mixKeyAndHash(input: Uint8Array): void {
    const [chainingKey, mixed, key] = this.#crypto.derive(this.#chainingKey, input, 3)
    this.mixHash(mixed as Uint8Array)
    mixed?.fill(0)
    this.#advance(chainingKey, key)
  }

  encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const key = this.#takeKey()
    const ciphertext = this.#crypto.seal(key, 0n, plaintext, this.#hash)
    key.fill(0)
    this.mixHash(ciphertext)
    return ciphertext
  }

  /** Undefined when it does not authenticate: the state is of no use any more then. */
  decryptAndHash(ciphertext: Uint8Array): Uint8Array | undefined {
    const key = this.#takeKey()
    const plaintext = this.#crypto.open(key, 0n, ciphertext, this.#hash)
    key.fill(0)
    if (plaintext !== undefined) this.mixHash(ciphertext)
    return plaintext
  }

  /** The transport keys: initiator to responder, then responder to initiator. Ends this state. */
  split(): [Uint8Array, Uint8Array] {
    const [first, second] = this.#crypto.derive(this.#chainingKey, EMPTY, 2)
    this.wipe()
    return [first as Uint8Array, second as Uint8Array]
  }

  /** A real copy: `slice` of a Node Buffer would be a view. */
  clone(): SymmetricState {
    const copy = new SymmetricState(this.#crypto, new Uint8Array(this.#chainingKey), new Uint8Array(this.#hash))
    copy.#key = this.#key && new Uint8Array(this.#key)
    return copy
  }

  wipe(): void {
    this.#chainingKey.fill(0)
    this.#hash = new Uint8Array(HASH_BYTES)
    this.#key?.fill(0)
    this.#key = undefined
  }

  #advance(chainingKey: Uint8Array | undefined, key: Uint8Array | undefined): void {
    // the first chaining key is also the first hash, which `hash` may have handed out
    if (this.#chainingKey !== this.#hash) this.#chainingKey.fill(0)
    this.#key?.fill(0)
    this.#chainingKey = chainingKey as Uint8Array
    this.#key = key
  }

  #takeKey(): Uint8Array {
    const key = this.#key
    if (key === undefined) throw new TypeError('each key of this pattern encrypts once')
    this.#key = undefined
    return key
  }
}
