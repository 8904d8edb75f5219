import { familyOf, type Ip, ipFromBytes, ipToBytes } from '#core/ip/address.ts'

/** A UDP-less IP packet with a payload: enough for addresses and lengths to be real. */
export function buildIpPacket(source: Ip, destination: Ip, payload: Uint8Array): Uint8Array {
  const four = familyOf(source) === 4
  const header = four ? 20 : 40
  const packet = new Uint8Array(header + payload.length)
  const view = new DataView(packet.buffer)
  packet[0] = four ? 0x45 : 0x60
  view.setUint16(four ? 2 : 4, four ? packet.length : payload.length)
  packet[four ? 9 : 6] = 253 // for experiments, RFC 3692
  packet.set(ipToBytes(source), four ? 12 : 8)
  packet.set(ipToBytes(destination), four ? 16 : 24)
  packet.set(payload, header)
  return packet
}

/** Undefined for what is no IP packet; `packet` without padding. */
export function parseIpPacket(bytes: Uint8Array): { source: Ip; destination: Ip; packet: Uint8Array } | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const version = (bytes[0] ?? 0) >> 4
  if (version === 4 && bytes.length >= 20) {
    const length = view.getUint16(2)
    if (length > bytes.length) return undefined
    return {
      source: ipFromBytes(bytes.subarray(12, 16)),
      destination: ipFromBytes(bytes.subarray(16, 20)),
      packet: bytes.subarray(0, length),
    }
  }
  if (version === 6 && bytes.length >= 40 && view.getUint16(4) + 40 <= bytes.length) {
    return {
      source: ipFromBytes(bytes.subarray(8, 24)),
      destination: ipFromBytes(bytes.subarray(24, 40)),
      packet: bytes.subarray(0, view.getUint16(4) + 40),
    }
  }
  return undefined
}
