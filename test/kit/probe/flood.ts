import { randomBytes, randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { LABEL_MAC1 } from '#core/wireguard/constants.ts'
import { wireguardCrypto } from '#io/crypto/wireguard-crypto.ts'

// Sends packets that a WireGuard port must refuse, about 5,000 a second from a port of its own; prints how many.
//
//   flood.ts KIND HOST PORT SECONDS PCAP PUBLICKEY
//
// random: any bytes, any length. types: every first byte, in the right lengths. lengths: right types, every length.
// forged: handshake messages in form, of somebody who does not know PUBLICKEY.
// initiations: with a right mac1 for PUBLICKEY and nothing else right, so that each costs a Diffie-Hellman.
// replayed: what stands in PCAP (Ethernet, IPv4), as it is. altered: the same with one bit turned.
const RIGHT_LENGTHS = [148, 92, 64, 32, 1452]
const PER_MS = 5

const [kind, host, port, seconds, pcap, publicKey] = process.argv.slice(2)
if (kind === undefined || host === undefined || pcap === undefined || publicKey === undefined)
  throw new TypeError('usage: flood.ts KIND HOST PORT SECONDS PCAP PUBLICKEY')

const recorded = kind === 'replayed' || kind === 'altered' ? payloads(readFileSync(pcap)) : []
const macKey = wireguardCrypto.hash(Buffer.from(LABEL_MAC1), Buffer.from(publicKey, 'base64'))
const make: Record<string, (n: number) => Uint8Array> = {
  random: () => randomBytes(randomInt(0, 1473)),
  types: (n) => {
    const packet = randomBytes(RIGHT_LENGTHS[n % RIGHT_LENGTHS.length] ?? 32)
    packet[0] = (n / RIGHT_LENGTHS.length) & 255
    packet.fill(0, 1, 4)
    return packet
  },
  lengths: (n) => {
    const packet = randomBytes((n >> 2) % 1473)
    return Buffer.concat([Buffer.from([1 + (n & 3), 0, 0, 0]), packet]).subarray(0, packet.length)
  },
  forged: (n) => {
    const type = 1 + (n % 3)
    const packet = randomBytes([148, 92, 64][n % 3] ?? 0)
    packet.set([type, 0, 0, 0])
    return packet
  },
  initiations: () => {
    const packet = randomBytes(148)
    packet.set([1, 0, 0, 0])
    packet.fill(0, 132)
    packet.set(wireguardCrypto.mac(macKey, packet.subarray(0, 116)), 116)
    return packet
  },
  replayed: (n) => recorded[n % recorded.length] as Uint8Array,
  altered: (n) => {
    const packet = Buffer.from(recorded[n % recorded.length] as Uint8Array)
    const bit = randomInt(0, packet.length * 8)
    packet[bit >> 3] = (packet[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    return packet
  },
}
const next = make[kind]
if (next === undefined) throw new TypeError(`KIND is one of ${Object.keys(make).join(', ')}`)

const socket = createSocket('udp4')
socket.on('error', () => undefined)
const started = performance.now()
let sent = 0
// a machine that gave no processor for so long has the flood as well
const least = (Number(seconds) * 1000 * PER_MS) / 2
for (let elapsed = 0; elapsed < Number(seconds) * 1000 || sent < least; elapsed = performance.now() - started) {
  for (const due = elapsed * PER_MS; sent < due; sent++) socket.send(next(sent), Number(port), host)
  await new Promise((resolve) => setTimeout(resolve, 1))
}
socket.close()
console.log(sent)

/** The UDP payloads in a capture with little-endian records of Ethernet and IPv4. */
function payloads(file: Buffer): Uint8Array[] {
  const found: Uint8Array[] = []
  for (let at = 24; at + 16 <= file.length; ) {
    const length = file.readUInt32LE(at + 8)
    const frame = file.subarray(at + 16, at + 16 + length)
    at += 16 + length
    if (frame.length < 42 || frame.readUInt16BE(12) !== 0x0800 || frame[23] !== 17) continue
    const udp = 14 + ((frame[14] ?? 0) & 15) * 4
    found.push(frame.subarray(udp + 8, udp + frame.readUInt16BE(udp + 4)))
  }
  if (found.length === 0) throw new Error('no UDP packet in the capture')
  return found
}
