import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import type { Fault } from '#core/fault/fault.ts'
import type { Result } from '#core/fault/result.ts'
import { AttributeWriter, malformed, readAttributes, readText, readU16, readU32 } from './attribute.ts'
import { guarded, type NetlinkMessage, type NetlinkRequest } from './message.ts'

/** Generic netlink: families by name, their numbers given out at run time (include/uapi/linux/genetlink.h). */
const GENL_ID_CTRL = 16
const CTRL_CMD_NEWFAMILY = 1
const CTRL_CMD_GETFAMILY = 3
const CTRL_ATTR_FAMILY_ID = 1
const CTRL_ATTR_FAMILY_NAME = 2
const CTRL_ATTR_VERSION = 3
const CTRL_ATTR_MCAST_GROUPS = 7
const CTRL_ATTR_MCAST_GRP_NAME = 1
const CTRL_ATTR_MCAST_GRP_ID = 2

export interface GenericFamily {
  /** The type of the family's messages, until the module is loaded anew. */
  readonly id: number
  readonly name: string
  readonly version: number
  /** Multicast groups, by name. */
  readonly groups: Readonly<Record<string, number>>
}

/** The kernel loads the family's module for this question. ENOENT: it has none of that name. */
export function getFamily(name: string): NetlinkRequest {
  const body = beginGeneric(CTRL_CMD_GETFAMILY, 1).text(CTRL_ATTR_FAMILY_NAME, name).finish()
  return { type: GENL_ID_CTRL, flags: 0, body }
}

/** struct genlmsghdr: u8 command, u8 version, u16 reserved. */
export function beginGeneric(command: number, version: number): AttributeWriter {
  return new AttributeWriter(new Writer().u8(command).u8(version).zeros(2))
}

/** The command of a generic message, and a reader of what follows its header. */
export function openGeneric(message: NetlinkMessage): { readonly command: number; readonly reader: Reader } {
  const reader = new Reader(message.body)
  const command = reader.u8()
  reader.skip(3)
  return { command, reader }
}

/** Of CTRL_CMD_NEWFAMILY; undefined for any other message. */
export function decodeFamily(message: NetlinkMessage): Result<GenericFamily | undefined, Fault> {
  return guarded(() => {
    if (message.type !== GENL_ID_CTRL) return undefined
    const { command, reader } = openGeneric(message)
    if (command !== CTRL_CMD_NEWFAMILY) return undefined
    let id: number | undefined
    let name = ''
    let version = 0
    const groups: Record<string, number> = {}
    for (const attribute of readAttributes(reader)) {
      if (attribute.type === CTRL_ATTR_FAMILY_ID) id = readU16(attribute)
      else if (attribute.type === CTRL_ATTR_FAMILY_NAME) name = readText(attribute)
      else if (attribute.type === CTRL_ATTR_VERSION) version = readU32(attribute)
      else if (attribute.type === CTRL_ATTR_MCAST_GROUPS) readGroups(attribute.reader, groups)
    }
    if (id === undefined) throw malformed('a family without a number', 0)
    return { id, name, version, groups }
  })
}

function readGroups(reader: Reader, into: Record<string, number>): void {
  for (const entry of readAttributes(reader)) {
    let name: string | undefined
    let id: number | undefined
    for (const attribute of readAttributes(entry.reader)) {
      if (attribute.type === CTRL_ATTR_MCAST_GRP_NAME) name = readText(attribute)
      else if (attribute.type === CTRL_ATTR_MCAST_GRP_ID) id = readU32(attribute)
    }
    if (name !== undefined && id !== undefined) into[name] = id
  }
}
