/**
 * What an agent says about encryption: Cilium's JSON, names as there. Zero numbers and empty texts are
 * left out where Cilium leaves them out.
 */
export interface EncryptionStatus {
  readonly mode: 'Disabled' | 'IPsec' | 'Wireguard'
  readonly msg?: string
  readonly wireguard?: WireguardStatus
}

interface WireguardStatus {
  readonly 'node-encryption'?: 'Disabled' | 'Enabled' | 'OptedOut'
  readonly 'node-encrypt-opt-out-labels'?: string
  readonly interfaces: readonly WireguardInterfaceStatus[]
}

interface WireguardInterfaceStatus {
  readonly name: string
  readonly 'listen-port': number
  readonly 'public-key': string
  readonly 'peer-count': number
  /** Only in debuginfo. */
  readonly peers?: readonly WireguardPeerStatus[]
}

export interface WireguardPeerStatus {
  readonly 'public-key': string
  /** `address:port`, IPv6 in brackets. */
  readonly endpoint: string
  /** RFC 3339; absent: never. */
  readonly 'last-handshake-time'?: string
  readonly 'allowed-ips': readonly string[]
  readonly 'transfer-tx': number
  readonly 'transfer-rx': number
}

/** The two cells after `Encryption:` in `cilium-dbg status`. */
export function encryptionCells(status: EncryptionStatus): [string, string] {
  if (status.msg !== undefined && status.msg !== '') return [status.mode, status.msg]
  const { wireguard } = status
  if (status.mode !== 'Wireguard' || wireguard === undefined) return [status.mode, '']
  const devices = wireguard.interfaces.map(
    (device) =>
      `${device.name} (Pubkey: ${device['public-key']}, Port: ${device['listen-port']}, Peers: ${device['peer-count']})`,
  )
  const parts = [`NodeEncryption: ${wireguard['node-encryption'] ?? 'Disabled'}`, ...devices]
  return [status.mode, `[${parts.join(', ')}]`]
}

/** `cilium-dbg encrypt status` as text. */
export function formatEncryptStatus(status: EncryptionStatus): string {
  const lines: string[] = []
  if (status.msg !== undefined && status.msg !== '') lines.push(`Msg: ${status.msg}`)
  lines.push(`Encryption: ${status.mode.padEnd(26)}`)
  for (const device of status.wireguard?.interfaces ?? []) {
    lines.push(
      `Interface: ${device.name}`,
      `\tPublic key: ${device['public-key']}`,
      `\tNumber of peers: ${device['peer-count']}`,
    )
  }
  return `${lines.join('\n')}\n`
}
