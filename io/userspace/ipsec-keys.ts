import type { IpsecDevice, IpsecPeer } from '#core/datapath/datapath.ts'
import type { EngineKeys } from '#core/engine/association.ts'
import { Fault } from '#core/fault/fault.ts'
import { type IpsecKey, type KeyRef, sameKey } from '#core/ipsec/key.ts'
import type { PairEnd } from '#core/ipsec/pair-key.ts'
import { deriveEngineKeys, engineFingerprint, supportedInUserspace } from '#core/ipsec/userspace.ts'
import type { PublicKey } from '#core/wireguard/key.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import type { WantedAssociation, WantedPeer } from './ipsec-diff.ts'

/**
 * Derives what each pair uses. Of the derived keys only their fingerprints are remembered, so that an event about one
 * peer does not derive those of all others again.
 */
export class PairDerivation {
  #fingerprints = new Map<string, string>()

  /**
   * Throws Fault `datapath.algorithm` with what there is, `datapath.key` for a reference to a key that is not there.
   * `identityOf`: what a slot is for.
   */
  wanted(device: IpsecDevice, identityOf: (peer: IpsecPeer) => PublicKey): WantedPeer[] {
    const used = new Map<string, string>()
    const peers = device.peers.map((peer) => {
      const own: PairEnd = { ip: peer.source, bootId: device.bootId }
      const theirs: PairEnd = { ip: peer.destination, bootId: peer.bootId }
      const associate = (ref: KeyRef, source: PairEnd, destination: PairEnd): WantedAssociation => {
        const key = supported(keyOf(device, ref, peer.node))
        const keys = (): EngineKeys => {
          const derived = deriveEngineKeys(key, source, destination, ipsecHash)
          if (derived.ok) return derived.value
          const { code, message, field, remedy } = derived.error
          throw new Fault(code, `node ${peer.node}: ${message}`, {
            ...(field === undefined ? {} : { field }),
            ...(remedy === undefined ? {} : { remedy }),
          })
        }
        const id = [key.fingerprint, source.ip, source.bootId, destination.ip, destination.bootId].join(' ')
        const fingerprint = this.#fingerprints.get(id) ?? fingerprintOf(keys())
        used.set(id, fingerprint)
        return { spi: key.id, outer: { source: source.ip, destination: destination.ip }, fingerprint, keys }
      }
      const { node, destination, encapsulation, allowedIps, receive, send } = peer
      return {
        identity: identityOf(peer),
        node,
        destination,
        encapsulation,
        allowedIps,
        receive: receive.map((ref) => associate(ref, theirs, own)),
        send: send === undefined ? undefined : associate(send, own, theirs),
      }
    })
    this.#fingerprints = used
    return peers
  }
}

function fingerprintOf(keys: EngineKeys): string {
  const fingerprint = engineFingerprint(keys, ipsecHash)
  keys.encryption.fill(0)
  keys.authentication.fill(0)
  return fingerprint
}

function keyOf({ name, keys }: IpsecDevice, ref: KeyRef, node: string): IpsecKey {
  const key = keys.find((one) => sameKey(one, ref))
  if (key !== undefined) return key
  throw new Fault('datapath.key', `node ${node} refers to key id ${ref.id} (${ref.fingerprint}), which is not there`, {
    field: name,
  })
}

function supported(key: IpsecKey): IpsecKey {
  const support = supportedInUserspace(key)
  if (support.supported) return key
  throw new Fault('datapath.algorithm', support.missing, { field: `key id ${key.id}`, remedy: support.remedy })
}
