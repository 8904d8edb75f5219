import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Reader } from '#core/bytes/reader.ts'
import { fromHex, toHex } from '#core/bytes/text.ts'
import { unwrap } from '#core/fault/result.ts'
import { readAttributes } from '#core/netlink/attribute.ts'
import { frameMessage, type NetlinkMessage, type NetlinkRequest, splitMessages } from '#core/netlink/message.ts'

/** What iproute2 or wg asked and the kernel answered: `tools/kernel/record.ts` makes these files. */
export interface NetlinkVectors {
  readonly about: string
  readonly records: readonly { readonly command: string; readonly requests: string[]; readonly answers: string[] }[]
  /** Datagrams that went to those who listen. */
  readonly events?: readonly string[]
}

export function loadVectors(name: 'netlink-xfrm' | 'netlink-wireguard'): NetlinkVectors {
  return JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), 'utf8')) as NetlinkVectors
}

/** Of that recorded command, or of the one that begins so. */
export function recorded(vectors: NetlinkVectors, command: string) {
  const exact = vectors.records.filter((record) => record.command === command)
  const found = exact.length > 0 ? exact : vectors.records.filter((record) => record.command.startsWith(command))
  assert.equal(found.length, 1, command)
  const [{ requests, answers }] = found as [NetlinkVectors['records'][number]]
  return { requests: requests.flatMap(messagesOf), answers: answers.flatMap(messagesOf) }
}

export function messagesOf(hex: string): readonly NetlinkMessage[] {
  return unwrap(splitMessages(fromHex(hex) ?? new Uint8Array()))
}

/** A request as the kernel would get it. */
export function asMessage(request: NetlinkRequest, flags = 0): NetlinkMessage {
  const [message] = unwrap(splitMessages(frameMessage(request, flags, 7)))
  assert.ok(message)
  return message
}

/** The fixed structure, and the attributes in the order of their types: iproute2's order is its own. */
export function normalised(message: NetlinkMessage, headerBytes: number) {
  const reader = new Reader(message.body)
  const header = toHex(reader.take(headerBytes))
  const attributes = readAttributes(reader).map(({ type, reader: value }) => `${type}: ${toHex(value.rest())}`)
  return { type: message.type, header, attributes: attributes.sort() }
}
