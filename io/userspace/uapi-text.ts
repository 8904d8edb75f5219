import { toBase64 } from '#core/bytes/text.ts'
import type { Endpoint, WireguardPeerState } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import { familyOf, parseIp } from '#core/ip/address.ts'
import { type Cidr, parseCidr } from '#core/ip/cidr.ts'
import { type PublicKey, parsePublicKey, publicKeyBytes } from '#core/wireguard/key.ts'

/**
 * The client's half of WireGuard's cross-platform userspace protocol (wireguard.com/xplatform): what `get=1` answers,
 * and the lines of `set=1`. Keys are hex there.
 */

/** What a device says of itself; its private key is read by nobody here. */
export interface UapiDevice {
  /** Hex of the private key; undefined while it has none. */
  readonly privateKeyHex: string | undefined
  readonly listenPort: number
  readonly fwmark: number
  readonly peers: readonly UapiPeer[]
}

export interface UapiPeer extends WireguardPeerState {
  /** Seconds, 0 is off. */
  readonly persistentKeepalive: number
}

/** Throws Fault `datapath.protocol` when the text is no answer to `get=1`, `datapath.refused` for an errno. */
export function parseGet(text: string): UapiDevice {
  const device = { privateKeyHex: undefined as string | undefined, listenPort: 0, fwmark: 0 }
  const peers: MutablePeer[] = []
  for (const { key, value } of parseLines(text)) {
    if (key === 'public_key') peers.push(newPeer(value))
    else if (key === 'private_key') device.privateKeyHex = /^0*$/.test(value) ? undefined : value
    else if (key === 'listen_port') device.listenPort = Number(value)
    else if (key === 'fwmark') device.fwmark = Number(value)
    else readPeerLine(peers.at(-1), key, value)
  }
  return {
    ...device,
    peers: peers.map(({ seconds, nanoseconds, ...peer }) => {
      const milliseconds = seconds * 1000 + Math.floor(nanoseconds / 1e6)
      return { ...peer, lastHandshake: milliseconds === 0 ? undefined : milliseconds }
    }),
  }
}

/** Throws Fault `datapath.refused` unless the answer to a `set=1` is `errno=0`. */
export function parseSetAnswer(text: string): void {
  parseLines(text)
}

export function formatEndpoint({ ip, port }: Endpoint): string {
  return familyOf(ip) === 6 ? `[${ip}]:${port}` : `${ip}:${port}`
}

export function keyToHex(key: PublicKey): string {
  return Buffer.from(publicKeyBytes(key)).toString('hex')
}

interface MutablePeer {
  publicKey: PublicKey
  endpoint: Endpoint | undefined
  allowedIps: Cidr[]
  seconds: number
  nanoseconds: number
  rxBytes: bigint
  txBytes: bigint
  persistentKeepalive: number
}

const REFUSALS: Readonly<Record<string, string>> = {
  '-28': 'no space left: in the file system of /run/pellicle on its node, or for another peer',
  '-30': 'the file system of /run/pellicle on its node is read-only',
  '-98': 'somebody else has the UDP port',
}

function parseLines(text: string): { key: string; value: string }[] {
  const lines = text.split('\n').filter((line) => line !== '')
  const pairs = lines.map((line) => {
    const at = line.indexOf('=')
    if (at < 1) throw protocolFault('a line without "="')
    return { key: line.slice(0, at), value: line.slice(at + 1) }
  })
  const last = pairs.pop()
  if (last?.key !== 'errno') throw protocolFault('an answer without errno')
  if (last.value !== '0') {
    const why = REFUSALS[last.value]
    throw new Fault('datapath.refused', `the keeper refused with errno ${last.value}${why ? ` (${why})` : ''}`, {
      remedy: 'See the log of DaemonSet pellicle-keeper.',
    })
  }
  return pairs
}

function newPeer(hex: string): MutablePeer {
  const publicKey = /^[0-9a-f]{64}$/i.test(hex) ? parsePublicKey(toBase64(Buffer.from(hex, 'hex'))) : undefined
  if (publicKey === undefined) throw protocolFault('a public key that is none')
  return {
    publicKey,
    endpoint: undefined,
    allowedIps: [],
    seconds: 0,
    nanoseconds: 0,
    rxBytes: 0n,
    txBytes: 0n,
    persistentKeepalive: 0,
  }
}

function readPeerLine(peer: MutablePeer | undefined, key: string, value: string): void {
  if (peer === undefined) return
  switch (key) {
    case 'endpoint':
      peer.endpoint = parseEndpoint(value)
      break
    case 'allowed_ip': {
      const cidr = parseCidr(value)
      if (cidr === undefined) throw protocolFault(`allowed_ip=${value}`)
      peer.allowedIps.push(cidr)
      break
    }
    case 'last_handshake_time_sec':
      peer.seconds = Number(value)
      break
    case 'last_handshake_time_nsec':
      peer.nanoseconds = Number(value)
      break
    case 'rx_bytes':
      peer.rxBytes = BigInt(value)
      break
    case 'tx_bytes':
      peer.txBytes = BigInt(value)
      break
    case 'persistent_keepalive_interval':
      peer.persistentKeepalive = Number(value)
      break
    default:
    // later versions say more; nothing here depends on it
  }
}

function parseEndpoint(text: string): Endpoint | undefined {
  const match = /^(?:\[([^\]%]+)(?:%[^\]]*)?\]|([^:]+)):(\d+)$/.exec(text)
  const ip = parseIp(match?.[1] ?? match?.[2] ?? '')
  return ip === undefined ? undefined : { ip, port: Number(match?.[3]) }
}

function protocolFault(what: string): Fault {
  return new Fault('datapath.protocol', `the WireGuard control socket answered ${what}`, {
    remedy: 'Keeper and agent must be of one release: restart DaemonSet pellicle-keeper.',
  })
}
