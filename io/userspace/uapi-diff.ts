import type { WireguardDevice, WireguardPeer } from '#core/datapath/datapath.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import type { PublicKey } from '#core/wireguard/key.ts'
import { formatEndpoint, keyToHex, type UapiDevice, type UapiPeer } from './uapi-text.ts'

/**
 * The lines of one `set=1` that lead from `actual` to `wanted`; empty when nothing differs. One call, in this order:
 * the device's own values; peers that are new or changed, with the allowed IPs that they get (whoever had one before
 * loses it in that moment, never earlier); allowed IPs that nobody gets; peers that go.
 *
 * An endpoint is set only when the announced one changed for us: one that WireGuard learnt by roaming stays otherwise.
 */
export function diffUapi(
  wanted: WireguardDevice,
  actual: UapiDevice,
  lastEndpoints: ReadonlyMap<PublicKey, string> = new Map(),
): string[] {
  const lines: string[] = []
  const privateKeyHex = Buffer.from(wanted.privateKey).toString('hex')
  if (actual.privateKeyHex !== privateKeyHex) lines.push(`private_key=${privateKeyHex}`)
  if (actual.listenPort !== wanted.listenPort) lines.push(`listen_port=${wanted.listenPort}`)
  if (actual.fwmark !== wanted.mark) lines.push(`fwmark=${wanted.mark}`)

  const before = new Map(actual.peers.map((peer) => [peer.publicKey, peer]))
  const wantedKeys = new Set(wanted.peers.map(({ publicKey }) => publicKey))
  const given = new Set<Cidr>(wanted.peers.flatMap(({ allowedIps }) => allowedIps))
  for (const peer of wanted.peers) lines.push(...peerLines(peer, before.get(peer.publicKey), lastEndpoints))
  for (const peer of wanted.peers) {
    const had = before.get(peer.publicKey)?.allowedIps ?? []
    const lost = had.filter((cidr) => !given.has(cidr))
    if (lost.length > 0) lines.push(...removalLines(peer.publicKey, lost))
  }
  for (const { publicKey } of actual.peers) {
    if (!wantedKeys.has(publicKey)) lines.push(`public_key=${keyToHex(publicKey)}`, 'remove=true')
  }
  return lines
}

function peerLines(
  peer: WireguardPeer,
  before: UapiPeer | undefined,
  lastEndpoints: ReadonlyMap<PublicKey, string>,
): string[] {
  const endpoint = formatEndpoint(peer.endpoint)
  const lines: string[] = []
  const said = lastEndpoints.get(peer.publicKey)
  const current = before?.endpoint === undefined ? undefined : formatEndpoint(before.endpoint)
  // after a restart of ours nobody remembers what was said: what the cluster announces counts then
  if (current !== endpoint && (current === undefined || said !== endpoint)) lines.push(`endpoint=${endpoint}`)
  if ((before?.persistentKeepalive ?? 0) !== peer.persistentKeepalive) {
    lines.push(`persistent_keepalive_interval=${peer.persistentKeepalive}`)
  }
  const has = new Set(before?.allowedIps)
  for (const cidr of peer.allowedIps) if (!has.has(cidr)) lines.push(`allowed_ip=${cidr}`)
  if (before === undefined) return [`public_key=${keyToHex(peer.publicKey)}`, ...lines, 'pellicle_greet=true']
  return lines.length === 0 ? [] : [`public_key=${keyToHex(peer.publicKey)}`, 'update_only=true', ...lines]
}

/** `-` takes a single prefix away (in the protocol since 2025, as in Linux 6.16), so the others have no gap. */
function removalLines(publicKey: PublicKey, lost: readonly Cidr[]): string[] {
  return [`public_key=${keyToHex(publicKey)}`, 'update_only=true', ...lost.map((cidr) => `allowed_ip=-${cidr}`)]
}
