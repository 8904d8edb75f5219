import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

// What the tests against another ESP, packet by packet, have in common: the engine's ciphers, and packets for them.
const exec = promisify(execFile)
const engine = new URL('../../engine', import.meta.url).pathname

export const SPI = 0x3003

export interface Keys {
  readonly encryption: Buffer
  readonly authentication: Buffer
}

/** Builds what {@link askOurs} runs. */
export async function buildOurs(): Promise<void> {
  await exec('cargo', ['build', '--locked', '-p', 'pellicle-crypto', '--example', 'esp'], {
    cwd: engine,
    timeout: 540_000,
  })
}

/**
 * An ESP packet of ours by the engine's ciphers, in hex. `seal`: `packet` has room for header and IV, the text with its
 * trailer, and room for the ICV; `open` gives the text, or `forged`. `high`: null of 32-bit numbers.
 */
export async function askOurs(
  verb: string,
  kind: { readonly algorithm: number; readonly icv: number },
  keys: Keys,
  high: number | null,
  low: number,
  packet: string,
) {
  const sequence = (BigInt(high ?? 0) << 32n) | BigInt(low)
  const { stdout } = await exec(`${engine}/target/debug/examples/esp`, [
    verb,
    `${kind.algorithm}`,
    `${kind.icv}`,
    keys.encryption.toString('hex'),
    keys.authentication.toString('hex'),
    high === null ? 'short' : 'extended',
    `${SPI}`,
    `${sequence}`,
    packet,
  ])
  return stdout.trim()
}

/** A packet of an experimental protocol (253), so that scapy reads nothing into it. */
export function ipv4(payload: Buffer): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(20), payload])
  bytes[0] = 0x45
  bytes.writeUInt16BE(bytes.length, 2)
  bytes[8] = 64
  bytes[9] = 253
  bytes.set([10, 0, 1, 2, 10, 0, 2, 3], 12)
  let sum = 0
  for (let at = 0; at < 20; at += 2) sum += bytes.readUInt16BE(at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  bytes.writeUInt16BE(~sum & 0xffff, 10)
  return bytes
}

/** With padding 1, 2, 3 …, its length and next header 4 (RFC 4303, section 2.4). */
export function trailed(text: Buffer, block: number): Buffer {
  const padding = (block - ((text.length + 2) % block)) % block
  return Buffer.concat([text, Buffer.from(Array.from({ length: padding }, (_, i) => i + 1)), Buffer.from([padding, 4])])
}

export async function missingCargo(): Promise<string | undefined> {
  try {
    await exec('cargo', ['--version'])
    return undefined
  } catch {
    return 'needs cargo'
  }
}
