/**
 * What an agent says about encryption: Cilium's JSON, names as there. Zero numbers and empty texts are
 * left out where Cilium leaves them out.
 */
export interface EncryptionStatus {
  readonly mode: 'Disabled' | 'IPsec' | 'Wireguard'
  readonly msg?: string
  readonly ipsec?: IpsecStatus
  readonly wireguard?: WireguardStatus
}

export interface IpsecStatus {
  readonly 'decrypt-interfaces': readonly string[]
  /** Distinct keys: one for each direction of each pair, and as many more while they are rotated. */
  readonly 'keys-in-use'?: number
  /** `0x1e3/0xffffffff`, or `N/A` when nothing was sent. */
  readonly 'max-seq-number'?: string
  readonly 'error-count'?: number
  /** Those that are not zero, by the kernel's names. */
  readonly 'xfrm-errors'?: Readonly<Record<string, number>>
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
  if (status.ipsec !== undefined) lines.push(...ipsecLines(status.ipsec))
  for (const device of status.wireguard?.interfaces ?? []) {
    lines.push(
      `Interface: ${device.name}`,
      `\tPublic key: ${device['public-key']}`,
      `\tNumber of peers: ${device['peer-count']}`,
    )
  }
  return `${lines.join('\n')}\n`
}

/** Values are padded to 26 columns, as Cilium's `%-26s` and `%-26d` leave them. */
function ipsecLines(ipsec: IpsecStatus): string[] {
  return [
    `Decryption interface(s): ${ipsec['decrypt-interfaces'].join(', ')}`,
    `Keys in use: ${String(ipsec['keys-in-use'] ?? 0).padEnd(26)}`,
    `Max Seq. Number: ${ipsec['max-seq-number'] ?? 'N/A'}`,
    `Errors: ${String(ipsec['error-count'] ?? 0).padEnd(26)}`,
    ...Object.entries(ipsec['xfrm-errors'] ?? {}).map(([name, count]) => `\t${name}: ${count}`),
  ]
}

const MOST_SEQUENCE = 2n ** 64n - 1n
/** What releases up to 1.17 show, whose tools read the lower half alone. */
const MOST_SEQUENCE_32 = 2n ** 32n - 1n

/** `highest`: the last number that was used, of all keys. */
export function maxSequence(highest: bigint, bits: 32 | 64): string {
  const most = bits === 32 ? MOST_SEQUENCE_32 : MOST_SEQUENCE
  return highest === 0n ? 'N/A' : `0x${(highest & most).toString(16)}/0x${most.toString(16)}`
}
