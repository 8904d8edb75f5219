import { Reader } from '#core/bytes/reader.ts'
import { Writer } from '#core/bytes/writer.ts'
import type { Fault } from '#core/fault/fault.ts'
import type { Result } from '#core/fault/result.ts'
import type { Ip } from '#core/ip/address.ts'
import { type Attribute, AttributeWriter, malformed, readAttributes, readU32 } from './attribute.ts'
import { guarded, type NetlinkMessage, type NetlinkRequest, NLM_F_DUMP } from './message.ts'
import { afOf, familyOfAf } from './rtnetlink.ts'
import * as xfrm from './xfrm.ts'

const DIRECTIONS = ['in', 'out', 'fwd'] as const
type XfrmDirection = (typeof DIRECTIONS)[number]
const TEMPLATE_BYTES = 64
/** XFRM_MAX_DEPTH. */
const MAX_TEMPLATES = 6

/** What the kernel finds a policy by. */
export interface XfrmPolicyId {
  readonly selector: xfrm.XfrmSelector
  readonly direction: XfrmDirection
  readonly mark?: xfrm.XfrmMark
  readonly interfaceId?: number
}

export interface XfrmPolicy extends XfrmPolicyId {
  /** The lowest number wins. */
  readonly priority: number
  readonly action: 'allow' | 'block'
  /** How a packet must be (in, fwd) or is to be (out) protected; none: not at all. Six at most. */
  readonly templates: readonly XfrmTemplate[]
  readonly limits?: xfrm.XfrmLimits
  /** XFRM_POLICY_*. */
  readonly flags?: number
}

export interface XfrmTemplate {
  readonly source: Ip
  readonly destination: Ip
  readonly protocol: number
  readonly mode: xfrm.XfrmMode
  /** 0: any. */
  readonly reqid: number
  /** 0: any. */
  readonly spi: number
  /** A packet without is let through ("level use"). */
  readonly optional?: boolean
}

export interface SeenXfrmPolicy extends XfrmPolicy, xfrm.XfrmUse {
  readonly index: number
}

/** Fails with EEXIST when selector, direction and mark are taken. */
export function newPolicy(policy: XfrmPolicy): NetlinkRequest {
  return { type: xfrm.XFRM_MSG_NEWPOLICY, flags: 0, body: encode(policy) }
}

/** Makes it or puts it in the place of the one that is there, in one step. */
export function setPolicy(policy: XfrmPolicy): NetlinkRequest {
  return { type: xfrm.XFRM_MSG_UPDPOLICY, flags: 0, body: encode(policy) }
}

/** ENOENT: it is not there. */
export function deletePolicy(id: XfrmPolicyId): NetlinkRequest {
  return { type: xfrm.XFRM_MSG_DELPOLICY, flags: 0, body: encodeId(id) }
}

export function getPolicy(id: XfrmPolicyId): NetlinkRequest {
  return { type: xfrm.XFRM_MSG_GETPOLICY, flags: 0, body: encodeId(id) }
}

export function dumpPolicies(): NetlinkRequest {
  return { type: xfrm.XFRM_MSG_GETPOLICY, flags: NLM_F_DUMP, body: new Uint8Array() }
}

/** All policies, anybody's. */
export function flushPolicies(): NetlinkRequest {
  return { type: xfrm.XFRM_MSG_FLUSHPOLICY, flags: 0, body: new Uint8Array() }
}

/** struct xfrm_userpolicy_id (64 bytes). */
function encodeId({ selector, direction, mark, interfaceId }: XfrmPolicyId): Uint8Array<ArrayBuffer> {
  const writer = new Writer()
  xfrm.putSelector(writer, selector)
  writer.zeros(4).u8(DIRECTIONS.indexOf(direction)).zeros(3)
  const to = new AttributeWriter(writer)
  if (mark !== undefined) xfrm.putMark(to, mark)
  if (interfaceId !== undefined) to.u32(xfrm.XFRMA_IF_ID, interfaceId)
  return to.finish()
}

/** struct xfrm_userpolicy_info (168 bytes), then attributes. */
function encode(policy: XfrmPolicy): Uint8Array<ArrayBuffer> {
  if (policy.templates.length > MAX_TEMPLATES) throw new TypeError(`a policy has ${MAX_TEMPLATES} templates at most`)
  const writer = new Writer()
  xfrm.putSelector(writer, policy.selector)
  xfrm.putLimits(writer, policy.limits)
  writer.zeros(xfrm.USE_BYTES).u32le(policy.priority).zeros(4).u8(DIRECTIONS.indexOf(policy.direction))
  writer
    .u8(policy.action === 'allow' ? 0 : 1)
    .u8(policy.flags ?? 0)
    .zeros(1)
    .align(8)
  const to = new AttributeWriter(writer)
  if (policy.templates.length > 0) {
    const templates = new Writer(policy.templates.length * TEMPLATE_BYTES)
    for (const template of policy.templates) putTemplate(templates, template)
    to.bytes(xfrm.XFRMA_TMPL, templates.finish())
  }
  if (policy.mark !== undefined) xfrm.putMark(to, policy.mark)
  if (policy.interfaceId !== undefined) to.u32(xfrm.XFRMA_IF_ID, policy.interfaceId)
  return to.finish()
}

/** struct xfrm_user_tmpl. The masks of algorithms allow all: the state says which. */
function putTemplate(writer: Writer, template: XfrmTemplate): void {
  const family = xfrm.familyOfBoth(template.source, template.destination)
  xfrm.putAddress(writer, template.destination)
  writer.u32be(template.spi).u8(template.protocol).zeros(3).u16le(afOf(family)).zeros(2)
  xfrm.putAddress(writer, template.source)
  writer.u32le(template.reqid).u8(xfrm.modeNumber(template.mode)).zeros(1)
  writer
    .u8(template.optional === true ? 1 : 0)
    .zeros(1)
    .u32le(0xffffffff)
    .u32le(0xffffffff)
    .u32le(0xffffffff)
}

/** Of XFRM_MSG_NEWPOLICY and XFRM_MSG_UPDPOLICY; undefined for a socket's own policies and for what is not IP. */
export function decodePolicy(message: NetlinkMessage): Result<SeenXfrmPolicy | undefined, Fault> {
  return guarded(() => {
    const reader = new Reader(message.body)
    const info = readInfo(reader)
    return info === undefined ? undefined : { ...info, ...readMore(readAttributes(reader)) }
  })
}

/** The structure alone; the rest is in attributes beside it. */
export function readPolicyBeside(info: Reader, attributes: readonly Attribute[]): SeenXfrmPolicy | undefined {
  const fixed = readInfo(info)
  return fixed === undefined ? undefined : { ...fixed, ...readMore(attributes) }
}

function readInfo(reader: Reader) {
  const selector = xfrm.readSelector(reader)
  const limits = xfrm.readLimits(reader)
  const use = xfrm.readUse(reader)
  const [priority, index] = [reader.u32le(), reader.u32le()]
  const direction = DIRECTIONS[reader.u8()]
  const [action, flags] = [reader.u8(), reader.u8()]
  reader.skip(5)
  if (selector === undefined || direction === undefined) return undefined
  return {
    selector,
    direction,
    priority,
    index,
    ...use,
    action: action === 0 ? ('allow' as const) : ('block' as const),
    ...(flags === 0 ? {} : { flags }),
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
  }
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

function readMore(attributes: readonly Attribute[]): Pick<SeenXfrmPolicy, 'templates' | 'mark' | 'interfaceId'> {
  const more: Mutable<Pick<SeenXfrmPolicy, 'templates' | 'mark' | 'interfaceId'>> = { templates: [] }
  for (const attribute of attributes) {
    if (attribute.type === xfrm.XFRMA_TMPL) more.templates = readTemplates(attribute)
    else if (attribute.type === xfrm.XFRMA_MARK) more.mark = xfrm.readMark(attribute)
    else if (attribute.type === xfrm.XFRMA_IF_ID) more.interfaceId = readU32(attribute)
  }
  return more
}

function readTemplates({ reader, offset }: Attribute): XfrmTemplate[] {
  if (reader.remaining % TEMPLATE_BYTES !== 0) throw malformed(`templates in ${reader.remaining} bytes`, offset)
  const templates: XfrmTemplate[] = []
  while (reader.remaining > 0) {
    const destination = reader.take(xfrm.XFRM_ADDRESS_BYTES)
    const [spi, protocol] = [reader.u32be(), reader.u8()]
    reader.skip(3)
    const family = familyOfAf(reader.u16le())
    reader.skip(2)
    const source = reader.take(xfrm.XFRM_ADDRESS_BYTES)
    const reqid = reader.u32le()
    const mode = xfrm.modeOf(reader.u8(), reader.offset - 1)
    reader.skip(1)
    const optional = reader.u8() !== 0
    reader.skip(13)
    if (family === undefined) throw malformed('a template whose family is not IP', offset)
    const ends = { source: xfrm.addressOf(family, source), destination: xfrm.addressOf(family, destination) }
    templates.push({ ...ends, protocol, mode, reqid, spi, ...(optional ? { optional } : {}) })
  }
  return templates
}
