import type { IpsecDevice, IpsecPeer } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import type { Ip } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import { type IpsecKey, type KeyRef, sameKey } from '#core/ipsec/key.ts'
import { derivePairKeys, type PairEnd } from '#core/ipsec/pair-key.ts'
import { wipeCrypto, xfrmCrypto, xfrmFingerprint } from '#core/ipsec/xfrm-crypto.ts'
import type { XfrmCrypto } from '#core/netlink/xfrm-algorithm.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'

/** One direction of a pair, with its keys derived when they are needed. */
export interface WantedState {
  readonly spi: number
  readonly source: Ip
  readonly destination: Ip
  /** Of the derived key. */
  readonly fingerprint: string
  /** The copy is the caller's to overwrite. */
  crypto(): XfrmCrypto
}

export interface WantedXfrmPeer {
  readonly node: string
  readonly bootId: string
  /** This node's outer address, and the peer's. */
  readonly source: Ip
  readonly destination: Ip
  readonly encapsulation: 'udp' | 'none'
  readonly allowedIps: readonly Cidr[]
  readonly receive: readonly WantedState[]
  readonly send: WantedState | undefined
}

/**
 * Derives what each pair uses. Of the derived keys only their fingerprints are remembered, so that an event about one
 * peer does not derive those of all others again.
 */
export class XfrmDerivation {
  #fingerprints = new Map<string, string>()

  /**
   * `part`: of the device's peers, only these; without, those of all others are forgotten.
   * @throws Fault `datapath.key` for a reference to a key that is not there, `ipsec.pair.*`
   */
  wanted(device: IpsecDevice, part?: readonly IpsecPeer[]): WantedXfrmPeer[] {
    const used = part === undefined ? new Map<string, string>() : this.#fingerprints
    const peers = (part ?? device.peers).map((peer): WantedXfrmPeer => {
      const own: PairEnd = { ip: peer.source, bootId: device.bootId }
      const theirs: PairEnd = { ip: peer.destination, bootId: peer.bootId }
      const state = (ref: KeyRef, source: PairEnd, destination: PairEnd): WantedState => {
        const key = keyOf(device, ref, peer.node)
        const crypto = () => {
          const pair = derivePairKeys(key, source, destination, ipsecHash)
          if (pair.ok) return xfrmCrypto(key, pair.value)
          const { code, message, field, remedy } = pair.error
          throw new Fault(code, `node ${peer.node}: ${message}`, {
            ...(field === undefined ? {} : { field }),
            ...(remedy === undefined ? {} : { remedy }),
          })
        }
        const id = [key.fingerprint, source.ip, source.bootId, destination.ip, destination.bootId].join(' ')
        const fingerprint = this.#fingerprints.get(id) ?? fingerprintOf(crypto())
        used.set(id, fingerprint)
        return { spi: key.id, source: source.ip, destination: destination.ip, fingerprint, crypto }
      }
      const { node, bootId, source, destination, encapsulation, allowedIps, receive, send } = peer
      return {
        node,
        bootId,
        source,
        destination,
        encapsulation,
        allowedIps,
        receive: receive.map((ref) => state(ref, theirs, own)),
        send: send === undefined ? undefined : state(send, own, theirs),
      }
    })
    this.#fingerprints = used
    return peers
  }
}

function fingerprintOf(crypto: XfrmCrypto): string {
  const fingerprint = xfrmFingerprint(crypto, ipsecHash)
  wipeCrypto(crypto)
  return fingerprint
}

function keyOf({ name, keys }: IpsecDevice, ref: KeyRef, node: string): IpsecKey {
  const key = keys.find((one) => sameKey(one, ref))
  if (key !== undefined) return key
  throw new Fault('datapath.key', `node ${node} refers to key id ${ref.id} (${ref.fingerprint}), which is not there`, {
    field: name,
  })
}
