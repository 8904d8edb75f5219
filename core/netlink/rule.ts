import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import type { Fault } from '#core/fault/fault.ts'
import type { Result } from '#core/fault/result.ts'
import { type Family, type Ip, ipToBytes } from '#core/ip/address.ts'
import { type Cidr, cidrOf, lengthOf, networkOf } from '#core/ip/cidr.ts'
import { AttributeWriter, readAttributes, readU8, readU32 } from './attribute.ts'
import { guarded, type NetlinkMessage, type NetlinkRequest, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from './message.ts'
import { afOf, checkPrefixLength, familyOfAf, RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE, readIpOf } from './rtnetlink.ts'

/** include/uapi/linux/fib_rules.h */
const FRA_DST = 1
const FRA_SRC = 2
const FRA_IIFNAME = 3
const FRA_PRIORITY = 6
const FRA_FWMARK = 10
const FRA_TABLE = 15
const FRA_FWMASK = 16
const FRA_OIFNAME = 17
const FRA_L3MDEV = 19
const FRA_UID_RANGE = 20
const FRA_PROTOCOL = 21
const FRA_IP_PROTO = 22
const FRA_SPORT_RANGE = 23
const FRA_DPORT_RANGE = 24
const FR_ACT_TO_TBL = 1
const FIB_RULE_INVERT = 2
/** What narrows a rule in a way that ours never do. */
const OTHER_SELECTORS = new Set([
  FRA_DST,
  FRA_IIFNAME,
  FRA_OIFNAME,
  FRA_UID_RANGE,
  FRA_IP_PROTO,
  FRA_SPORT_RANGE,
  FRA_DPORT_RANGE,
])

export interface Rule {
  readonly family: Family
  readonly priority: number
  /** Absent: from anywhere. */
  readonly source?: Cidr
  readonly mark: number
  readonly mask: number
  /** "not": packets that do not match. */
  readonly invert: boolean
  readonly table: number
  readonly protocol: number
}

export interface SeenRule extends Rule {
  /** Has another action or other selectors than a source and a mark. */
  readonly complex: boolean
}

/** Fails with EEXIST when the same rule is there. */
export function newRule(rule: Rule): NetlinkRequest {
  return { type: RTM_NEWRULE, flags: NLM_F_CREATE | NLM_F_EXCL, body: encode(rule) }
}

/** Only a rule of that protocol. */
export function deleteRule(rule: Rule): NetlinkRequest {
  return { type: RTM_DELRULE, flags: 0, body: encode(rule) }
}

export function dumpRules(family: Family): NetlinkRequest {
  return { type: RTM_GETRULE, flags: NLM_F_DUMP, body: new Writer().u8(afOf(family)).zeros(11).finish() }
}

/** struct fib_rule_hdr: u8 family, dst_len, src_len, tos, table, res1, res2, action, u32 flags. */
function encode(rule: Rule): Uint8Array<ArrayBuffer> {
  const writer = new Writer()
    .u8(afOf(rule.family))
    .zeros(1)
    .u8(rule.source === undefined ? 0 : lengthOf(rule.source))
    .zeros(1)
    .u8(rule.table < 256 ? rule.table : 0)
    .zeros(2)
    .u8(FR_ACT_TO_TBL)
    .u32le(rule.invert ? FIB_RULE_INVERT : 0)
  const to = new AttributeWriter(writer)
  if (rule.source !== undefined && lengthOf(rule.source) > 0) to.bytes(FRA_SRC, ipToBytes(networkOf(rule.source)))
  to.u32(FRA_PRIORITY, rule.priority)
    .u32(FRA_FWMARK, rule.mark)
    .u32(FRA_FWMASK, rule.mask)
    .u8(FRA_PROTOCOL, rule.protocol)
  if (rule.table > 255) to.u32(FRA_TABLE, rule.table)
  return to.finish()
}

/** Of RTM_NEWRULE and RTM_DELRULE; undefined for a family that is not IP. */
export function decodeRule(message: NetlinkMessage): Result<SeenRule | undefined, Fault> {
  return guarded(() => {
    const reader = new Reader(message.body)
    const family = familyOfAf(reader.u8())
    reader.skip(1)
    const length = reader.u8()
    let complex = reader.u8() !== 0
    let table = reader.u8()
    reader.skip(2)
    if (reader.u8() !== FR_ACT_TO_TBL) complex = true
    const invert = (reader.u32le() & FIB_RULE_INVERT) !== 0
    if (family === undefined) return undefined
    checkPrefixLength(family, length, 2)
    let source: Ip | undefined
    let priority = 0
    let mark = 0
    let mask = 0
    let protocol = 0
    for (const attribute of readAttributes(reader)) {
      switch (attribute.type) {
        case FRA_PRIORITY:
          priority = readU32(attribute)
          break
        case FRA_SRC:
          source = readIpOf(family, attribute)
          break
        case FRA_FWMARK:
          mark = readU32(attribute)
          break
        case FRA_FWMASK:
          mask = readU32(attribute)
          break
        case FRA_TABLE:
          table = readU32(attribute)
          break
        case FRA_PROTOCOL:
          protocol = readU8(attribute)
          break
        case FRA_L3MDEV:
          if (readU8(attribute) !== 0) complex = true
          break
        default:
          if (OTHER_SELECTORS.has(attribute.type)) complex = true
      }
    }
    const from = source === undefined ? {} : { source: cidrOf(source, length) }
    return { family, priority, ...from, mark, mask, invert, table, protocol, complex }
  })
}
