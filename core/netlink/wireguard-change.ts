import { ipToBytes } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, lengthOf, networkOf } from '#core/ip/cidr.ts'
import { KEY_BYTES, type PublicKey, publicKeyBytes } from '#core/wireguard/key.ts'
import type { AttributeWriter } from './attribute.ts'
import { beginGeneric } from './generic.ts'
import { HEADER_BYTES, type NetlinkRequest } from './message.ts'
import { afOf } from './rtnetlink.ts'
import { type SocketAddress, socketAddressBytes } from './socket-address.ts'
import * as words from './wireguard-words.ts'

/** What to change of a device; what is absent stays as it is. */
export interface WireguardChange {
  readonly name: string
  /** 32 bytes; it is copied into the request, whose body the sender wipes. */
  readonly privateKey?: Uint8Array
  readonly listenPort?: number
  readonly mark?: number
  /** Peers that are not listed go. */
  readonly replacePeers?: boolean
  readonly peers?: readonly WireguardPeerChange[]
}

export interface WireguardPeerChange {
  readonly publicKey: PublicKey
  /** The peer goes; nothing else of it counts. */
  readonly remove?: boolean
  /** A peer that is not there is not made. */
  readonly updateOnly?: boolean
  readonly presharedKey?: Uint8Array
  readonly endpoint?: SocketAddress
  /** Seconds; 0 is off. */
  readonly persistentKeepalive?: number
  /**
   * Takes all allowed IPs away before those of `allowedIps` are added, one after the other: for a moment packets to them
   * have no peer.
   */
  readonly replaceAllowedIps?: boolean
  /** Taken from whichever peer has them, in one step each. */
  readonly allowedIps?: readonly Cidr[]
  /** Only from Linux 6.16; EINVAL before. */
  readonly removedAllowedIps?: readonly Cidr[]
}

/** Nested attributes have a length of 16 bits, and the kernel parses a message as a whole. */
const ROOM = 16 * 1024

/**
 * The requests that make the change, to be sent in this order: allowed IPs that do not fit into one message go on in the
 * next under the same public key, as include/uapi/linux/wireguard.h says.
 *
 * @param family number of the family `wireguard`
 * @param room most bytes of one message, header included
 */
export function changeWireguard(family: number, change: WireguardChange, room = ROOM): readonly NetlinkRequest[] {
  const requests: NetlinkRequest[] = []
  const pending = [...(change.peers ?? [])].reverse()
  do {
    const to = beginGeneric(words.WG_CMD_SET_DEVICE, words.WIREGUARD_VERSION)
    to.text(words.WGDEVICE_A_IFNAME, change.name)
    if (requests.length === 0) putDevice(to, change)
    if (pending.length > 0) to.nested(words.WGDEVICE_A_PEERS, (peers) => fill(peers, pending, room - HEADER_BYTES))
    requests.push({ type: family, flags: 0, body: to.finish() })
  } while (pending.length > 0)
  return requests
}

function putDevice(to: AttributeWriter, { privateKey, listenPort, mark, replacePeers }: WireguardChange): void {
  if (privateKey !== undefined) to.bytes(words.WGDEVICE_A_PRIVATE_KEY, wholeKey(privateKey))
  if (listenPort !== undefined) to.u16(words.WGDEVICE_A_LISTEN_PORT, listenPort)
  if (mark !== undefined) to.u32(words.WGDEVICE_A_FWMARK, mark)
  if (replacePeers === true) to.u32(words.WGDEVICE_A_FLAGS, words.WGDEVICE_F_REPLACE_PEERS)
}

/** The longest peer without allowed IPs: every attribute, an IPv6 endpoint, two headers of nests. */
const PEER_BYTES = 4 + 36 + 36 + 8 + 32 + 8 + 4
/** Of IPv6 with flags. */
const ALLOWED_IP_BYTES = { 4: 4 + 8 + 8 + 8, 6: 4 + 8 + 20 + 8, flags: 8 }

/** Takes peers off the end of `pending` for as long as there is room, at least something of one. */
function fill(to: AttributeWriter, pending: WireguardPeerChange[], room: number): void {
  for (let first = true; pending.length > 0; first = false) {
    const peer = pending.at(-1)
    if (peer === undefined || (!first && to.writer.length + PEER_BYTES > room)) return
    pending.pop()
    const rest = putPeer(to, peer, room)
    if (rest === undefined) continue
    pending.push(rest)
    return
  }
}

/** What did not fit. */
function putPeer(to: AttributeWriter, peer: WireguardPeerChange, room: number): WireguardPeerChange | undefined {
  const added = [...(peer.remove === true ? [] : (peer.allowedIps ?? []))]
  const removed = [...(peer.remove === true ? [] : (peer.removedAllowedIps ?? []))]
  to.nested(0, (inner) => {
    inner.bytes(words.WGPEER_A_PUBLIC_KEY, publicKeyBytes(peer.publicKey))
    const flags =
      (peer.remove === true ? words.WGPEER_F_REMOVE_ME : 0) |
      (peer.replaceAllowedIps === true ? words.WGPEER_F_REPLACE_ALLOWEDIPS : 0) |
      (peer.updateOnly === true ? words.WGPEER_F_UPDATE_ONLY : 0)
    const { presharedKey, endpoint, persistentKeepalive } = peer.remove === true ? {} : peer
    if (presharedKey !== undefined) inner.bytes(words.WGPEER_A_PRESHARED_KEY, wholeKey(presharedKey))
    if (endpoint !== undefined) inner.bytes(words.WGPEER_A_ENDPOINT, socketAddressBytes(endpoint))
    if (persistentKeepalive !== undefined) {
      inner.u16(words.WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, persistentKeepalive)
    }
    if (flags !== 0) inner.u32(words.WGPEER_A_FLAGS, flags)
    if (added.length + removed.length === 0) return
    inner.nested(words.WGPEER_A_ALLOWEDIPS, (list) => {
      putAllowedIps(list, added, 0, room)
      putAllowedIps(list, removed, words.WGALLOWEDIP_F_REMOVE_ME, room)
    })
  })
  if (added.length + removed.length === 0) return undefined
  const { publicKey, updateOnly } = peer
  return { publicKey, ...(updateOnly ? { updateOnly } : {}), allowedIps: added, removedAllowedIps: removed }
}

/** Takes what fits off the front of `cidrs`. */
function putAllowedIps(to: AttributeWriter, cidrs: Cidr[], flags: number, room: number): void {
  let done = 0
  for (const cidr of cidrs) {
    const family = cidrFamily(cidr)
    const length = ALLOWED_IP_BYTES[family] + (flags === 0 ? 0 : ALLOWED_IP_BYTES.flags)
    // a room that is too small for anything still gets on
    if (done > 0 && to.writer.length + length > room) break
    to.nested(0, (entry) => {
      entry.u16(words.WGALLOWEDIP_A_FAMILY, afOf(family))
      entry.bytes(words.WGALLOWEDIP_A_IPADDR, ipToBytes(networkOf(cidr)))
      entry.u8(words.WGALLOWEDIP_A_CIDR_MASK, lengthOf(cidr))
      if (flags !== 0) entry.u32(words.WGALLOWEDIP_A_FLAGS, flags)
    })
    done++
  }
  cidrs.splice(0, done)
}

function wholeKey(key: Uint8Array): Uint8Array {
  if (key.length !== KEY_BYTES) throw new TypeError(`a key has ${KEY_BYTES} bytes, not ${key.length}`)
  return key
}
