import { fromHex, toBase64 } from '#core/bytes/text.ts'
import type { EngineEndpoint } from '#core/engine/endpoint.ts'
import { Fault } from '#core/fault/fault.ts'
import { parseIp } from '#core/ip/address.ts'
import { parseCidr } from '#core/ip/cidr.ts'
import type { AllowedIpChange, DeviceChange, PeerChange } from '#core/wireguard/change.ts'
import { KEY_BYTES, type PublicKey, parsePublicKey } from '#core/wireguard/key.ts'
import { HEALTH_OPERATION } from './health.ts'

/**
 * The server's half of WireGuard's cross-platform control protocol (wireguard.com/xplatform), as `wg` speaks it: lines
 * `key=value`, ended by an empty line. Errors name the line; a secret's value is never in them.
 */
export type ControlRequest =
  | { readonly op: 'get' }
  | { readonly op: 'health' }
  | { readonly op: 'set'; readonly change: DeviceChange }

/** Interface index for the text after `%`; undefined when there is no such interface. */
export type ScopeResolver = (name: string) => number | undefined

type Mutable<T> = { -readonly [K in keyof T]: T[K] }
type PeerDraft = Mutable<Omit<PeerChange, 'allowedIps'>> & { allowedIps: AllowedIpChange[] }

/**
 * One whole operation, without the empty line at its end.
 * @throws Fault `uapi.*`, field `line N`
 */
export function parseControlRequest(text: string, scopeOf: ScopeResolver = numericScope): ControlRequest {
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  const [first = '', ...rest] = lines
  if (first === 'get=1') {
    if (rest.length > 0) throw atLine(2, 'nothing may follow get=1')
    return { op: 'get' }
  }
  if (first === HEALTH_OPERATION) {
    if (rest.length > 0) throw atLine(2, `nothing may follow ${HEALTH_OPERATION}`)
    return { op: 'health' }
  }
  if (first !== 'set=1') throw atLine(1, 'an operation begins with get=1 or set=1')
  return { op: 'set', change: parseChange(rest, scopeOf, 2) }
}

/** The lines after `set=1`; also what a saved configuration consists of. `firstLine` is for messages. */
export function parseChange(
  lines: readonly string[],
  scopeOf: ScopeResolver = numericScope,
  firstLine = 1,
): DeviceChange {
  const device: Mutable<Omit<DeviceChange, 'peers'>> = { replacePeers: false }
  const peers: PeerDraft[] = []
  lines.forEach((line, i) => {
    const number = firstLine + i
    const at = line.indexOf('=')
    if (at < 1) throw atLine(number, 'no key=value')
    const [key, value] = [line.slice(0, at), line.slice(at + 1)]
    if (key === 'public_key') {
      peers.push({
        publicKey: publicKey(value, number),
        remove: false,
        updateOnly: false,
        replaceAllowedIps: false,
        allowedIps: [],
      })
      return
    }
    const peer = peers.at(-1)
    if (peer === undefined) deviceLine(device, key, value, number)
    else peerLine(peer, key, value, number, scopeOf)
  })
  return { ...device, peers }
}

function deviceLine(device: Mutable<Omit<DeviceChange, 'peers'>>, key: string, value: string, line: number): void {
  switch (key) {
    case 'private_key':
      device.privateKey = secretKey(key, value, line)
      break
    case 'listen_port':
      device.listenPort = integer(key, value, 0xffff, line)
      break
    case 'fwmark':
      device.mark = integer(key, value, 0xffffffff, line)
      break
    case 'replace_peers':
      device.replacePeers = onlyTrue(key, value, line)
      break
    default:
      throw atLine(line, `${unknownKey(key)} before the first public_key`)
  }
}

function peerLine(peer: PeerDraft, key: string, value: string, line: number, scopeOf: ScopeResolver): void {
  switch (key) {
    case 'remove':
      peer.remove = onlyTrue(key, value, line)
      break
    case 'update_only':
      peer.updateOnly = onlyTrue(key, value, line)
      break
    case 'preshared_key':
      peer.presharedKey = secretKey(key, value, line)
      break
    case 'endpoint':
      peer.endpoint = endpoint(value, line, scopeOf)
      break
    case 'persistent_keepalive_interval':
      peer.persistentKeepalive = integer(key, value, 0xffff, line)
      break
    case 'replace_allowed_ips':
      peer.replaceAllowedIps = onlyTrue(key, value, line)
      break
    case 'allowed_ip': {
      const remove = value.startsWith('-')
      const prefix = parseCidr(remove ? value.slice(1) : value)
      if (prefix === undefined) throw atLine(line, `allowed_ip: "${printable(value)}" is no prefix such as 10.0.0.0/8`)
      peer.allowedIps.push({ prefix, remove })
      break
    }
    // ours (docs/protocol/control.md)
    case 'pellicle_greet':
      peer.greet = onlyTrue(key, value, line)
      break
    case 'protocol_version':
      if (value !== '1') throw atLine(line, 'protocol_version: only 1 is known', 'uapi.version')
      break
    default:
      throw atLine(line, `${unknownKey(key)} of a peer`)
  }
}

function publicKey(value: string, line: number): PublicKey {
  const bytes = fromHex(value)
  const key = bytes && parsePublicKey(toBase64(bytes))
  if (key === undefined) throw atLine(line, 'public_key: not 64 hex digits of a key that is not all zero')
  return key
}

function secretKey(key: string, value: string, line: number): Uint8Array | 'none' {
  const bytes = fromHex(value)
  if (bytes?.length !== KEY_BYTES) throw atLine(line, `${key}: not 64 hex digits`)
  return bytes.every((byte) => byte === 0) ? 'none' : bytes
}

function integer(key: string, value: string, max: number, line: number): number {
  if (!/^[0-9]{1,10}$/.test(value) || Number(value) > max) throw atLine(line, `${key}: no number from 0 to ${max}`)
  return Number(value)
}

function onlyTrue(key: string, value: string, line: number): true {
  if (value !== 'true') throw atLine(line, `${key}: only "true" is allowed`)
  return true
}

function endpoint(value: string, line: number, scopeOf: ScopeResolver): EngineEndpoint {
  const match = /^(?:\[([0-9a-fA-F:.]+)(?:%([^\]]+))?\]|([0-9.]+)):([0-9]{1,5})$/.exec(value)
  const [, six, scopeName, four, port] = match ?? []
  const ip = parseIp(six ?? four ?? '')
  const scope = scopeName === undefined ? 0 : scopeOf(scopeName)
  if (ip === undefined || (six !== undefined && !ip.includes(':')) || Number(port) > 0xffff || Number(port) === 0) {
    throw atLine(line, `endpoint: "${printable(value)}" is no 192.0.2.1:51820 or [2001:db8::1]:51820`)
  }
  if (scope === undefined) throw atLine(line, `endpoint: there is no interface ${printable(scopeName ?? '')}`)
  return { ip, port: Number(port), scope }
}

function numericScope(name: string): number | undefined {
  return /^[0-9]{1,9}$/.test(name) ? Number(name) : undefined
}

function atLine(line: number, sentence: string, code = 'uapi.invalid'): Fault {
  return new Fault(code, `line ${line}: ${sentence}`, { field: `line ${line}` })
}

/** A key that was pasted as a line would be its own "name": only what looks like one is said again. */
function unknownKey(key: string): string {
  return /^[a-z_]{1,32}$/.test(key) ? `unknown key ${key}` : 'not a known key'
}

/** What came from outside, short and without control characters. */
function printable(text: string): string {
  return text.slice(0, 60).replace(/[^\x20-\x7e]/g, '?')
}
