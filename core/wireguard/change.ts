import type { EngineEndpoint } from '#core/engine/endpoint.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import type { PublicKey } from './key.ts'

/** One `set` of WireGuard's control protocol: absent means "leave as it is". */
export interface DeviceChange {
  /** `none` removes the key. */
  readonly privateKey?: Uint8Array | 'none'
  readonly listenPort?: number
  readonly mark?: number
  /** Peers that are not named below are removed. */
  readonly replacePeers: boolean
  readonly peers: readonly PeerChange[]
}

export interface PeerChange {
  readonly publicKey: PublicKey
  readonly remove: boolean
  /** Only when the peer exists. */
  readonly updateOnly: boolean
  readonly presharedKey?: Uint8Array | 'none'
  readonly endpoint?: EngineEndpoint
  /** Seconds; 0 is off. */
  readonly persistentKeepalive?: number
  readonly replaceAllowedIps: boolean
  /**
   * Begin a handshake now unless there is a session: a peer that begins before this node knows it is not heard, and by
   * itself waits 5 s to try again (REKEY_TIMEOUT).
   */
  readonly greet?: boolean
  readonly allowedIps: readonly AllowedIpChange[]
}

export interface AllowedIpChange {
  readonly prefix: Cidr
  readonly remove: boolean
}
