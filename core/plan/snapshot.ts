import type { Ip } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import type { Mac } from '#core/ip/mac.ts'
import type { KeyRef } from '#core/ipsec/key.ts'
import type { IpsecShape } from '#core/ipsec/shape.ts'
import type { IpsecWords } from '#core/ipsec/words.ts'
import { type Announcement, CLEAR, CLOSED, type Level, RECEIVING, SENDING } from '#core/transition/level.ts'
import type { EncryptionType, ModeWords } from '#core/transition/mode.ts'
import type { PublicKey } from '#core/wireguard/key.ts'
import { IPSEC_DEVICE, WIREGUARD_DEVICE } from './names.ts'

/**
 * What an agent knows, as one immutable value. `plan` (plan.ts) is a function of it and of nothing else.
 *
 * Whoever builds the next snapshot keeps the *same object* for every peer, endpoint, `self` and `config` that did not
 * change: the planner remembers what it made of an object, so one event costs one object's work.
 */
export interface Snapshot {
  readonly config: PlanConfig
  readonly self: OwnNode
  /** Every other CiliumNode; order does not matter. */
  readonly peers: readonly Peer[]
  readonly endpoints: readonly LocalEndpoint[]
}

/** One value per address family; a family that is absent is not used. */
export interface PerFamily<T> {
  readonly 4?: T
  readonly 6?: T
}

/** The node that this agent runs on. */
export interface OwnNode {
  readonly name: string
  /** The address that peers reach this node by (`InternalIP`). */
  readonly nodeIps: PerFamily<Ip>
  /** `CiliumInternalIP`: reserved in the pod CIDR, carried by `cilium_host`. */
  readonly internalIps: PerFamily<Ip>
  readonly podCidrs: readonly Cidr[]
  /** The device that has the node IP; undefined while unknown. */
  readonly underlayDevice: string | undefined
  /** Bytes: of that device. */
  readonly underlayMtu: number
  /** Undefined while this node has no key pair (encryption off, or not made yet). */
  readonly publicKey: PublicKey | undefined
  /** Absent while this node has no IPsec (another mode, encryption off, or the device is not open yet). */
  readonly ipsec?: OwnIpsec | undefined
  /** Own level and epoch, as persisted and published (core/transition). */
  readonly announcement: Announcement
  /** The same of the mode; absent: it has none yet. */
  readonly mode?: Announcement | undefined
  /** A label of the opt-out selector is on this node: its host addresses stay outside `nodeEncryption`. */
  readonly optedOut: boolean
}

/** What this node does with IPsec keys; core/transition/rotation.ts decides it. */
export interface OwnIpsec {
  /** Of the device, as the datapath gave it; published as `spec.bootid`. */
  readonly bootId: string
  /** Received by, from every peer; oldest first. */
  readonly receive: readonly KeyRef[]
  /** To be published once this plan is in force. */
  readonly words: IpsecWords
  /** By name of the peer; absent: it and this node have no key in common. */
  readonly sendBy: Readonly<Record<string, KeyRef>>
}

/** Another node, as its CiliumNode says. Texts that others wrote are judged by the planner, not by the reader. */
export interface Peer {
  readonly name: string
  readonly nodeIps: PerFamily<Ip>
  readonly internalIps: PerFamily<Ip>
  readonly podCidrs: readonly Cidr[]
  /** Annotation `network.cilium.io/wg-pub-key` as it stands; undefined when there is none. */
  readonly publicKeyText: string | undefined
  /** `spec.bootid` as it stands. */
  readonly bootId?: string | undefined
  /** What it says of its IPsec keys; absent when it says nothing, or something malformed. */
  readonly ipsec?: IpsecWords | undefined
  /** `spec.encryption.key`: 255 is WireGuard, 1..15 IPsec; 0 (or absent) beside a key: opted out of node encryption. */
  readonly encryptionKey: number
  /** `parseAnnouncement` of the annotation `pellicle.io/encryption-level`; undefined when absent or malformed. */
  readonly announcement: Announcement | undefined
  /** Between which of WireGuard and IPsec it is (core/transition/mode.ts); absent: it has never encrypted. */
  readonly mode?: ModeWords | undefined
  /** Annotation `pellicle.io/node-encryption` is `on`. */
  readonly encryptsHosts: boolean
  /** Annotation `pellicle.io/datapath` is `kernel`: Linux itself encrypts there. */
  readonly byKernel?: true
  /** Undefined: Kubernetes knows no such node (yet), so nothing that it claims is believed. */
  readonly granted: Granted | undefined
}

/**
 * What Kubernetes' own Node object says of a node. A CiliumNode is written by the node that it is about; the Node's pod
 * CIDRs and most of its labels are not, so a claim is good only as far as it is found here.
 */
export interface Granted {
  readonly podCidrs: readonly Cidr[]
  /** `InternalIP`s. The node's kubelet writes them, so they bind its agent, not somebody who has all of the node. */
  readonly nodeIps: readonly Ip[]
  /** The opt-out selector matches its labels. */
  readonly optedOut: boolean
}

/** A pod on this node. */
export interface LocalEndpoint {
  readonly ips: PerFamily<Ip>
  /** The host's end of its veth pair, `lxc…`. */
  readonly device: string
  /** Of the pod's own end. */
  readonly mac: Mac
}

export interface PlanConfig {
  readonly encryption: {
    /** What the cluster is asked for; what this node does is `self.announcement.level`. */
    readonly enabled: boolean
    /** What this node sends by; while the mode changes to IPsec, to every peer that receives by it (core/transition/mode.ts). */
    readonly type: EncryptionType
    /** Only while the mode changes: the other one, which this node receives by as well. */
    readonly second?: EncryptionType | undefined
    readonly nodeEncryption: boolean
    /** Of WireGuard; UDP, as Cilium's: 51871 */
    readonly listenPort: number
    /** Of WireGuard; seconds, 0 is off. */
    readonly persistentKeepalive: number
    readonly ipsec: IpsecPlanConfig
    /** Linux itself encrypts (XFRM, WireGuard), and not the engine: packets then pass the firewall once more before they do. */
    readonly byKernel?: true
  }
  /** What pods see of a node when they leave the cluster: true is the node's address. */
  readonly masquerade: { readonly 4: boolean; readonly 6: boolean }
  /** Every prefix that pods may ever get, both families. Without one the agent does not start (ADR 0004). */
  readonly clusterCidrs: readonly Cidr[]
  readonly tunnel: { readonly vni: number; readonly port: number }
  /** Absent: pods' packets in clear go through `cilium_vxlan`. No shape of IPsec that needs that device goes with it. */
  readonly native?: NativeRouting | undefined
  /** Of packets that are already encrypted; as Cilium's: 0xE00/0xF00. Never bits 14 and 15 (ADR 0004). */
  readonly mark: { readonly bits: number; readonly mask: number }
  /** Bytes of one super packet that pods may send, so that one UDP send holds it encrypted (ADR 0004). */
  readonly gsoMaxSize: number
}

/** `routing-mode: native`: the network between nodes carries pods' packets as they are. */
export interface NativeRouting {
  /** What it carries: pods go there as themselves. */
  readonly cidrs: readonly Cidr[]
  /** Each node is asked for its pods (all are on one link); else the network's own routers know where they are. */
  readonly directNodeRoutes: boolean
}

/** Means something when the type is `ipsec`. */
export interface IpsecPlanConfig {
  readonly shape: IpsecShape
  /** Of ESP in UDP (RFC 3948). */
  readonly port: number
  /** `udpEncapsulation: auto`: UDP only between two engines, which are several times faster by it; the kernel is not. */
  readonly udpByEngines?: true
  /** `encrypt-interface`: asked for, and looked for on the node. Nothing else follows from it. */
  readonly interface?: string
}

/** Cilium's own numbers; the agent overrides what the ConfigMap names. */
export const DEFAULTS = {
  listenPort: 51871,
  ipsec: { shape: 'udp', port: 4500 },
  tunnel: { vni: 1, port: 8472 },
  mark: { bits: 0xe00, mask: 0xf00 },
  gsoMaxSize: 59_000,
} as const satisfies Partial<PlanConfig> & { readonly listenPort: number; readonly ipsec: IpsecPlanConfig }

export const ENCRYPTION_DEVICE = { wireguard: WIREGUARD_DEVICE, ipsec: IPSEC_DEVICE } as const

export function uses({ encryption: { type, second } }: PlanConfig, wanted: EncryptionType): boolean {
  return type === wanted || second === wanted
}

/** Both while the mode changes, in an order that is always the same. */
export function encryptionTypes(config: PlanConfig): readonly EncryptionType[] {
  return (['wireguard', 'ipsec'] as const).filter((type) => uses(config, type))
}

/** What is to be encrypted is routed into one of them, and what was decrypted comes out of them. */
export function encryptionDevices(config: PlanConfig): readonly string[] {
  return encryptionTypes(config).map((type) => ENCRYPTION_DEVICE[type])
}

/** Undefined: no IPsec. */
export function ipsecShape(config: PlanConfig): IpsecShape | undefined {
  return uses(config, 'ipsec') ? config.encryption.ipsec.shape : undefined
}

/** IPsec goes through `cilium_vxlan`, or what that sends goes through IPsec. */
export function usesVxlan(config: PlanConfig): boolean {
  const shape = ipsecShape(config)
  return shape === 'esp-in-vxlan' || shape === 'vxlan-in-esp'
}

/**
 * The mark of what has to be routed anew: another one than that of encrypted packets, within the same mask. 0: a mask of a
 * single bit leaves none.
 */
export function otherMark(config: PlanConfig): number {
  return moreMarks(config)[0] ?? 0
}

/**
 * How far a node at `level` and with this mode is with encrypting what pods and other nodes' own addresses say to each other:
 * IPsec does, WireGuard leaves it in clear (ADR 0004, "Hosts"). It is the lower of the level and the stage of the mode
 * (core/transition/mode.ts), so it obeys the rules of both.
 */
export function hostLevelOf({ encryption: { type, second } }: PlanConfig, level: Level): Level {
  if (type === 'wireguard') return lower(second === undefined ? CLEAR : RECEIVING, level)
  return lower(second === undefined ? CLOSED : SENDING, level)
}

/** The same of a peer, as it is known: one that says no stage is past all of them. */
export function peerHostLevel({ mode }: Pick<Peer, 'mode'>, level: Level): Level {
  return lower(mode?.level ?? CLOSED, level)
}

function lower(a: Level, b: Level): Level {
  return a < b ? a : b
}

/** The mark of what is answered encrypted though it goes to a node itself: a third one. 0 as above. */
export function answerMark(config: PlanConfig): number {
  return moreMarks(config)[1] ?? 0
}

function moreMarks({ mark: { bits, mask } }: PlanConfig): readonly number[] {
  const lowest = mask & -mask
  const next = (mask ^ lowest) & -(mask ^ lowest)
  if (next === 0) return []
  return [bits ^ lowest, bits ^ next, bits ^ lowest ^ next].filter((mark) => mark !== 0)
}

/** `spec.encryption.key` of a WireGuard node. */
export const STATIC_ENCRYPT_KEY = 255
