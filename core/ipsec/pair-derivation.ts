import type { IpsecDevice, IpsecPeer } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import type { Result } from '#core/fault/result.ts'
import type { Ip } from '#core/ip/address.ts'
import { type IpsecKey, type KeyRef, sameKey } from './key.ts'
import type { PairEnd } from './pair-key.ts'

/** Derived keys as a datapath takes them. */
export interface KeyForm<Keys> {
  /** @throws Fault `datapath.algorithm` when the datapath cannot use the key */
  require(key: IpsecKey): void
  derive(key: IpsecKey, source: PairEnd, destination: PairEnd): Result<Keys, Fault>
  /** By which the datapath names them. */
  fingerprint(keys: Keys): string
  /** Overwrites them. */
  wipe(keys: Keys): void
}

/** One direction of a pair, with its keys derived when they are needed. */
export interface DerivedKey<Keys> {
  readonly spi: number
  readonly outer: { readonly source: Ip; readonly destination: Ip }
  /** Of the derived key. */
  readonly fingerprint: string
  /** The copy is the caller's to overwrite. */
  keys(): Keys
}

export interface DerivedPeer<Keys> extends Omit<IpsecPeer, 'receive' | 'send'> {
  readonly receive: readonly DerivedKey<Keys>[]
  readonly send: DerivedKey<Keys> | undefined
}

/**
 * Derives what each pair uses. Of the derived keys only their fingerprints are remembered, so that an event about one
 * peer does not derive those of all others again.
 */
export class PairDerivation<Keys> {
  readonly #form: KeyForm<Keys>
  #fingerprints = new Map<string, string>()

  constructor(form: KeyForm<Keys>) {
    this.#form = form
  }

  /**
   * `part`: of the device's peers, only these; without, those of all others are forgotten.
   * @throws Fault `datapath.algorithm`, `datapath.key` for a reference to a key that is not there, `ipsec.pair.*`
   */
  wanted(device: IpsecDevice, part?: readonly IpsecPeer[]): DerivedPeer<Keys>[] {
    const form = this.#form
    const used = part === undefined ? new Map<string, string>() : this.#fingerprints
    const peers = (part ?? device.peers).map((peer): DerivedPeer<Keys> => {
      const own: PairEnd = { ip: peer.source, bootId: device.bootId }
      const theirs: PairEnd = { ip: peer.destination, bootId: peer.bootId }
      const deriveFor = (ref: KeyRef, source: PairEnd, destination: PairEnd): DerivedKey<Keys> => {
        const key = keyOf(device, ref, peer.node)
        form.require(key)
        const keys = () => {
          const derived = form.derive(key, source, destination)
          if (derived.ok) return derived.value
          const { code, message, field, remedy } = derived.error
          throw new Fault(code, `node ${peer.node}: ${message}`, {
            ...(field === undefined ? {} : { field }),
            ...(remedy === undefined ? {} : { remedy }),
          })
        }
        const id = [key.fingerprint, source.ip, source.bootId, destination.ip, destination.bootId].join(' ')
        const fingerprint = this.#fingerprints.get(id) ?? nameOf(form, keys())
        used.set(id, fingerprint)
        return { spi: key.id, outer: { source: source.ip, destination: destination.ip }, fingerprint, keys }
      }
      return {
        ...peer,
        receive: peer.receive.map((ref) => deriveFor(ref, theirs, own)),
        send: peer.send === undefined ? undefined : deriveFor(peer.send, own, theirs),
      }
    })
    this.#fingerprints = used
    return peers
  }
}

function nameOf<Keys>(form: KeyForm<Keys>, keys: Keys): string {
  const fingerprint = form.fingerprint(keys)
  form.wipe(keys)
  return fingerprint
}

function keyOf({ name, keys }: IpsecDevice, ref: KeyRef, node: string): IpsecKey {
  const key = keys.find((one) => sameKey(one, ref))
  if (key !== undefined) return key
  throw new Fault('datapath.key', `node ${node} refers to key id ${ref.id} (${ref.fingerprint}), which is not there`, {
    field: name,
  })
}
