import type { EngineEndpoint } from '#core/engine/endpoint.ts'
import { familyOf } from '#core/ip/address.ts'
import type { Device } from '#core/wireguard/device.ts'
import { publicKeyBytes } from '#core/wireguard/key.ts'
import type { Peer } from '#core/wireguard/peer.ts'

/** The answer to `get=1`, with keys: it goes to root only. Ends with the empty line. */
export function formatDevice(device: Device): string {
  const lines = deviceLines(device)
  for (const peer of device.peers.values()) {
    const { activity, lastHandshake = 0 } = peer
    addPeerLines(lines, peer)
    lines.push(`last_handshake_time_sec=${Math.floor(lastHandshake / 1000)}`)
    lines.push(`last_handshake_time_nsec=${Math.floor((lastHandshake % 1000) * 1e6)}`)
    lines.push(`tx_bytes=${activity.txBytes}`, `rx_bytes=${activity.rxBytes}`, 'protocol_version=1')
  }
  return `${lines.join('\n')}${lines.length > 0 ? '\n' : ''}errno=0\n\n`
}

/** What `parseChange` reads again: the configuration, and where the peers are now. */
export function formatConfiguration(device: Device): string {
  const lines = [...deviceLines(device), 'replace_peers=true']
  for (const peer of device.peers.values()) addPeerLines(lines, peer)
  return `${lines.join('\n')}\n`
}

function formatEndpoint({ ip, port, scope }: EngineEndpoint): string {
  if (familyOf(ip) === 4) return `${ip}:${port}`
  return scope === 0 ? `[${ip}]:${port}` : `[${ip}%${scope}]:${port}`
}

function deviceLines(device: Device): string[] {
  const lines: string[] = []
  if (device.privateKey !== undefined) lines.push(`private_key=${device.privateKey.toHex()}`)
  if (device.listenPort !== 0) lines.push(`listen_port=${device.listenPort}`)
  if (device.mark !== 0) lines.push(`fwmark=${device.mark}`)
  return lines
}

/** Appended one by one: a peer may have more prefixes than a call may have arguments. */
function addPeerLines(lines: string[], peer: Peer): void {
  lines.push(`public_key=${publicKeyBytes(peer.publicKey).toHex()}`)
  if (peer.hasPsk) lines.push(`preshared_key=${peer.psk.toHex()}`)
  if (peer.endpoint !== undefined) lines.push(`endpoint=${formatEndpoint(peer.endpoint)}`)
  if (peer.persistentKeepalive > 0) lines.push(`persistent_keepalive_interval=${peer.persistentKeepalive}`)
  for (const prefix of peer.allowedIps) lines.push(`allowed_ip=${prefix}`)
}
