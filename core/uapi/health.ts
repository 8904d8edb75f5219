import { fromHex, toBase64 } from '#core/bytes/text.ts'
import { Fault } from '#core/fault/fault.ts'
import type { Now } from '#core/wireguard/clock.ts'
import type { Device } from '#core/wireguard/device.ts'
import { type PublicKey, parsePublicKey, publicKeyBytes } from '#core/wireguard/key.ts'

/**
 * What `wg` does not ask for and the agent does, on the same socket: the operation `pellicle=1`
 * (docs/protocol/control.md). No key but public ones.
 */
export interface Health {
  /** Of the engine, and of handshakes (`handshakes.` and how they ended). */
  readonly counters: Readonly<Record<string, number>>
  /** Milliseconds since 1970: since when what was sent to a peer has had no answer. Peers with an answer are not in it. */
  readonly unanswered: ReadonlyMap<PublicKey, number>
}

export const HEALTH_OPERATION = 'pellicle=1'

export function formatHealth(device: Device, engine: Readonly<Record<string, number>>, now: Now): string {
  const lines = Object.entries(engine).map(([name, value]) => `counter_${name}=${value}`)
  for (const [verdict, count] of device.verdicts) lines.push(`counter_handshakes.${verdict}=${count}`)
  for (const peer of device.peers.values()) {
    const since = peer.unansweredSince
    if (since === undefined) continue
    const unix = Math.round(now.unix - (now.monotonic - since))
    lines.push(`public_key=${publicKeyBytes(peer.publicKey).toHex()}`, `unanswered_since_msec=${unix}`)
  }
  return [...lines, 'errno=0', '', ''].join('\n')
}

/** @throws Fault `uapi.health` for what is no answer; undefined from a keeper that does not know the question */
export function parseHealth(text: string): Health | undefined {
  const counters: Record<string, number> = {}
  const unanswered = new Map<PublicKey, number>()
  let errno: string | undefined
  let peer: PublicKey | undefined
  for (const line of text.split('\n').filter((one) => one !== '')) {
    const at = line.indexOf('=')
    const [key, value] = [line.slice(0, at), line.slice(at + 1)]
    if (key === 'errno') errno = value
    else if (key.startsWith('counter_')) counters[key.slice('counter_'.length)] = Number(value)
    else if (key === 'public_key') peer = parsePublicKey(toBase64(fromHex(value) ?? new Uint8Array()))
    else if (key === 'unanswered_since_msec' && peer !== undefined) unanswered.set(peer, Number(value))
  }
  if (errno === undefined) throw new Fault('uapi.health', 'an answer without errno')
  return errno === '0' ? { counters, unanswered } : undefined
}
