import type { Reader } from '#core/bytes/reader.ts'
import type { Fault } from '#core/fault/fault.ts'
import type { Result } from '#core/fault/result.ts'
import { unwrap } from '#core/fault/result.ts'
import { FAMILY_BITS, ipFromBytes } from '#core/ip/address.ts'
import { type Cidr, cidrOf } from '#core/ip/cidr.ts'
import { KEY_BYTES, type PublicKey, publicKeyOf } from '#core/wireguard/key.ts'
import {
  type Attribute,
  malformed,
  readAttributes,
  readBytesOf,
  readText,
  readU8,
  readU16,
  readU32,
  readU64,
} from './attribute.ts'
import { beginGeneric, openGeneric } from './generic.ts'
import { guarded, type NetlinkMessage, type NetlinkRequest, NLM_F_DUMP } from './message.ts'
import { familyOfAf } from './rtnetlink.ts'
import { readSocketAddress, type SocketAddress } from './socket-address.ts'
import * as words from './wireguard-words.ts'

/** A device as the kernel tells of it. Its private key and the pre-shared keys are left where they are. */
export interface SeenWireguard {
  readonly name: string
  readonly index: number
  /** Absent: it has no private key yet. */
  readonly publicKey?: PublicKey
  readonly listenPort: number
  readonly mark: number
  readonly peers: readonly SeenWireguardPeer[]
}

export interface SeenWireguardPeer {
  readonly publicKey: PublicKey
  readonly endpoint?: SocketAddress
  /** Seconds; 0 is off. */
  readonly persistentKeepalive: number
  /** Whether there is one; all zeros mean none. */
  readonly presharedKey: boolean
  /** Milliseconds since the epoch; absent: never. */
  readonly lastHandshake?: number
  readonly rxBytes: bigint
  readonly txBytes: bigint
  readonly allowedIps: readonly Cidr[]
}

/** A dump: the device may take several messages. ENODEV: no such link; EOPNOTSUPP: it is no WireGuard device. */
export function getWireguard(family: number, name: string): NetlinkRequest {
  const body = beginGeneric(words.WG_CMD_GET_DEVICE, words.WIREGUARD_VERSION)
    .text(words.WGDEVICE_A_IFNAME, name)
    .finish()
  return { type: family, flags: NLM_F_DUMP, body }
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }
type Part = Mutable<Omit<SeenWireguard, 'peers'>> & { readonly peers: (SeenWireguardPeer & { allowedIps: Cidr[] })[] }

/**
 * The device of a dump's messages: the first has the device's own attributes; a peer whose allowed IPs did not fit is
 * told again at the beginning of the next, with its public key and more of them. Undefined when there is no message.
 */
export function decodeWireguard(messages: readonly NetlinkMessage[]): Result<SeenWireguard | undefined, Fault> {
  return guarded(() => {
    let device: Part | undefined
    for (const message of messages) {
      const part = unwrap(guarded(() => decodePart(message)))
      if (device === undefined) {
        device = part
        continue
      }
      const last = device.peers.at(-1)
      const [first] = part.peers
      if (last !== undefined && first?.publicKey === last.publicKey) {
        last.allowedIps.push(...first.allowedIps)
        part.peers.shift()
      }
      device.peers.push(...part.peers)
    }
    return device
  })
}

function decodePart(message: NetlinkMessage): Part {
  const { command, reader } = openGeneric(message)
  if (command !== words.WG_CMD_GET_DEVICE) throw malformed(`command ${command} is no answer about a device`, 0)
  const part: Part = { name: '', index: 0, listenPort: 0, mark: 0, peers: [] }
  for (const attribute of readAttributes(reader)) {
    switch (attribute.type) {
      case words.WGDEVICE_A_IFNAME:
        part.name = readText(attribute)
        break
      case words.WGDEVICE_A_IFINDEX:
        part.index = readU32(attribute)
        break
      case words.WGDEVICE_A_PUBLIC_KEY:
        part.publicKey = readKey(attribute)
        break
      case words.WGDEVICE_A_LISTEN_PORT:
        part.listenPort = readU16(attribute)
        break
      case words.WGDEVICE_A_FWMARK:
        part.mark = readU32(attribute)
        break
      case words.WGDEVICE_A_PEERS:
        for (const peer of readAttributes(attribute.reader)) part.peers.push(readPeer(peer))
        break
    }
  }
  return part
}

function readKey(attribute: Attribute): PublicKey {
  return publicKeyOf(readBytesOf(attribute, KEY_BYTES))
}

function readPeer(of: Attribute): Part['peers'][number] {
  const rest: Partial<Mutable<Pick<SeenWireguardPeer, 'endpoint' | 'lastHandshake'>>> = {}
  let publicKey: PublicKey | undefined
  let [persistentKeepalive, presharedKey, rxBytes, txBytes] = [0, false, 0n, 0n]
  const allowedIps: Cidr[] = []
  for (const attribute of readAttributes(of.reader)) {
    switch (attribute.type) {
      case words.WGPEER_A_PUBLIC_KEY:
        publicKey = readKey(attribute)
        break
      case words.WGPEER_A_PRESHARED_KEY:
        presharedKey = readBytesOf(attribute, KEY_BYTES).some((byte) => byte !== 0)
        break
      case words.WGPEER_A_ENDPOINT: {
        const endpoint = readSocketAddress(attribute)
        if (endpoint !== undefined) rest.endpoint = endpoint
        break
      }
      case words.WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL:
        persistentKeepalive = readU16(attribute)
        break
      case words.WGPEER_A_LAST_HANDSHAKE_TIME: {
        const at = readTimespec(attribute)
        if (at > 0) rest.lastHandshake = at
        break
      }
      case words.WGPEER_A_RX_BYTES:
        rxBytes = readU64(attribute)
        break
      case words.WGPEER_A_TX_BYTES:
        txBytes = readU64(attribute)
        break
      case words.WGPEER_A_ALLOWEDIPS:
        for (const entry of readAttributes(attribute.reader))
          allowedIps.push(...readAllowedIp(entry.reader, entry.offset))
        break
    }
  }
  if (publicKey === undefined) throw malformed('a peer without a public key', of.offset)
  return { publicKey, persistentKeepalive, presharedKey, rxBytes, txBytes, allowedIps, ...rest }
}

/** struct __kernel_timespec: i64 seconds, i64 nanoseconds; as milliseconds. */
function readTimespec(attribute: Attribute): number {
  const bytes = readBytesOf(attribute, 16)
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16)
  return Number(view.getBigInt64(0, true)) * 1000 + Math.floor(Number(view.getBigInt64(8, true)) / 1_000_000)
}

/** None for a family that is not IP. */
function readAllowedIp(reader: Reader, offset: number): readonly Cidr[] {
  let af: number | undefined
  let address: Uint8Array | undefined
  let length: number | undefined
  for (const attribute of readAttributes(reader)) {
    if (attribute.type === words.WGALLOWEDIP_A_FAMILY) af = readU16(attribute)
    else if (attribute.type === words.WGALLOWEDIP_A_IPADDR) address = attribute.reader.rest()
    else if (attribute.type === words.WGALLOWEDIP_A_CIDR_MASK) length = readU8(attribute)
  }
  const family = familyOfAf(af ?? 0)
  if (family === undefined) return []
  const bits = FAMILY_BITS[family]
  if (address?.length !== bits / 8 || length === undefined || length > bits) {
    throw malformed(`an allowed IP that is no IPv${family} prefix`, offset)
  }
  return [cidrOf(ipFromBytes(address), length)]
}
