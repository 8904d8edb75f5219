import type { Ip } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
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
