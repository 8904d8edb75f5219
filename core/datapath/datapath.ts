import type { Ip } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import type { IpsecKey, KeyRef } from '#core/ipsec/key.ts'
import type { PublicKey } from '#core/wireguard/key.ts'

/**
 * The datapath port: what encrypts, seen from the agent. Implemented by the userspace datapath (supervisor and keeper),
 * the kernel's (netlink), and a fake for tests; `test/contract/datapath.ts` runs against each.
 *
 * Routes, rules, addresses and nftables are not the datapath's: steering is the same for all of them.
 */
export interface Datapath {
  readonly kind: 'userspace' | 'kernel' | 'fake'
  /** Tries the real thing. Never throws for a missing capability: it says which. */
  probe(): Promise<ProbeResult>
  /**
   * Makes the device and its peers as described; applies only the differences, so it may be called with the same value
   * at any time. A peer that stays keeps its sessions; an allowed IP that moves between peers is never without a peer.
   * @throws Fault `datapath.*` with what to do; what was there before keeps working.
   */
  apply(device: WireguardDevice): Promise<void>
  /**
   * Makes the device of `settings` if it is not there and leaves its peers as they are: the boot id is published before
   * any peer can be made.
   */
  openIpsec(settings: IpsecSettings): Promise<IpsecOpened>
  /**
   * The same for IPsec, in this order: receive by what is new, send by what `send` says, stop receiving by what is not
   * listed any more. Done when no packet leaves by anything else (a barrier).
   * @throws Fault `datapath.*`; `datapath.boot-id` when `device.bootId` is not the device's any more (open it again).
   */
  applyIpsec(device: IpsecDevice): Promise<void>
  /** Undefined when there is no such device, or it is none of IPsec. */
  observeIpsec(name: string): Promise<IpsecState | undefined>
  /** Undefined when there is no such device. */
  observe(name: string): Promise<WireguardState | undefined>
  /**
   * What the device counts by name, `drop…` of them packets that ended there; empty when nothing is known. For people and
   * metrics: names are the implementation's.
   */
  counters(name: string): Promise<Readonly<Record<string, number>>>
  /** Removes the device with all its keys. Done when it is gone. */
  remove(name: string): Promise<void>
  close(): Promise<void>
}

export type ProbeResult =
  | { readonly usable: true }
  | { readonly usable: false; readonly missing: string; readonly remedy: string }

export interface WireguardDevice {
  readonly name: string
  /** 32 bytes; the caller keeps ownership. */
  readonly privateKey: Uint8Array
  readonly listenPort: number
  /** Firewall mark of what the device sends (as Cilium's: 0xE00). */
  readonly mark: number
  readonly mtu: number
  readonly peers: readonly WireguardPeer[]
}

export interface WireguardPeer {
  readonly publicKey: PublicKey
  readonly endpoint: Endpoint
  readonly allowedIps: readonly Cidr[]
  /** Seconds, 0 is off. */
  readonly persistentKeepalive: number
}

export interface Endpoint {
  readonly ip: Ip
  readonly port: number
}

export interface WireguardState {
  readonly name: string
  readonly publicKey: PublicKey
  readonly listenPort: number
  readonly peers: readonly WireguardPeerState[]
}

export interface WireguardPeerState {
  readonly publicKey: PublicKey
  readonly endpoint: Endpoint | undefined
  readonly allowedIps: readonly Cidr[]
  /** Milliseconds since the epoch; undefined: never. */
  readonly lastHandshake: number | undefined
  /** Milliseconds since the epoch: since when what was sent has had no answer; undefined: nothing is unanswered. */
  readonly unansweredSince?: number
  readonly rxBytes: bigint
  readonly txBytes: bigint
}

export type IpsecSettings = Pick<IpsecDevice, 'name' | 'mtu' | 'mark' | 'udpPort'>

/** A device of ESP tunnels (RFC 4303): what is routed into it leaves encrypted, what was decrypted comes out of it. */
export interface IpsecDevice {
  readonly name: string
  readonly mtu: number
  /** Firewall mark of the encrypted packets (as Cilium's: 0xE00). */
  readonly mark: number
  /** Of ESP in UDP (RFC 3948): 4500. The sockets are open whether or not a peer is reached by them. */
  readonly udpPort: number
  /** Of this node, as {@link IpsecOpened} gave it. */
  readonly bootId: string
  readonly peers: readonly IpsecPeer[]
  /** Those that peers refer to. The caller keeps ownership. */
  readonly keys: readonly IpsecKey[]
}

export interface IpsecPeer {
  /** Name of the Kubernetes node. */
  readonly node: string
  /** Another boot id means other keys, and that nothing is sent until something authenticated came from it. */
  readonly bootId: string
  readonly source: Ip
  readonly destination: Ip
  /** `udp`: ESP in UDP; `none`: IP protocol 50. */
  readonly encapsulation: 'udp' | 'none'
  /** Inner addresses: what is sent to this peer, and what may come from it. */
  readonly allowedIps: readonly Cidr[]
  /** Installed before anything else changes. Oldest first. */
  readonly receive: readonly KeyRef[]
  /** Undefined: there is no key that both have; what is routed there waits, bounded, and is counted. */
  readonly send: KeyRef | undefined
}

/** What there is before any peer. */
export interface IpsecOpened {
  /** 36 characters, `8-4-4-4-12`: changes whenever sequence counters may have started again. */
  readonly bootId: string
}

export interface IpsecState {
  readonly name: string
  readonly bootId: string
  readonly associations: readonly IpsecAssociation[]
  readonly peers: readonly IpsecPeerState[]
}

interface IpsecPeerState {
  /** Undefined: made by somebody else, or before this agent began. */
  readonly node: string | undefined
  readonly destination: Ip | undefined
  /** Something authenticated has come from it under its present boot id: only since then anything is sent to it. */
  readonly heard: boolean
  readonly rxBytes: bigint
  readonly txBytes: bigint
}

/** One direction of one pair. */
export interface IpsecAssociation {
  readonly direction: 'in' | 'out'
  readonly node: string | undefined
  readonly spi: number
  readonly source: Ip
  readonly destination: Ip
  readonly encapsulation: 'udp' | 'none'
  /** As Linux names them, such as `rfc4106(gcm(aes))` or `hmac(sha256),cbc(aes)`. */
  readonly algorithm: string
  /** Of the derived key; 16 hexadecimal digits. */
  readonly fingerprint: string
  /** Out: the last number that was used; in: the highest that was accepted. 0: none yet. */
  readonly sequence: bigint
  readonly packets: bigint
  readonly bytes: bigint
}
