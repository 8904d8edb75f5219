import { z } from 'zod'
import { Fault } from '#core/fault/fault.ts'
import { fail, ok, type Result } from '#core/fault/result.ts'
import { type Ip, parseIp } from '#core/ip/address.ts'
import { type Cidr, parseCidr } from '#core/ip/cidr.ts'
import { formatIpsecWords, type IpsecWords, parseIpsecWords } from '#core/ipsec/words.ts'
import { formatReading, type Reading } from '#core/transition/greeting.ts'
import { type Announcement, formatAnnouncement, parseAnnouncement } from '#core/transition/level.ts'
import { formatMode, type ModeWords, parseMode, settledIn } from '#core/transition/mode.ts'
import { type PublicKey, parsePublicKey } from '#core/wireguard/key.ts'
import { ANNOTATION } from './names.ts'
import type { OwnerReference, Resource } from './object.ts'

/** `ciliumnodes.cilium.io/v2`: the fields that we use; all others are kept as they are. */

const ownerReferenceSchema = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  name: z.string(),
  uid: z.string(),
})

const metadataSchema = z.looseObject({
  name: z.string(),
  uid: z.string().optional(),
  resourceVersion: z.string().optional(),
  generation: z.number().optional(),
  creationTimestamp: z.string().optional(),
  deletionTimestamp: z.string().optional(),
  labels: z.record(z.string(), z.string()).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
  ownerReferences: z.array(ownerReferenceSchema).optional(),
})

const pairOfIps = z.looseObject({
  ipv4: z.string().optional().describe('IPv4 address'),
  ipv6: z.string().optional().describe('IPv6 address'),
})

export const ciliumNodeSpecSchema = z
  .looseObject({
    addresses: z
      .array(
        z.looseObject({
          type: z.string().optional().describe('InternalIP, ExternalIP or CiliumInternalIP'),
          ip: z.string().optional().describe('IP address'),
        }),
      )
      .optional()
      .describe('All addresses of the node'),
    bootid: z.string().optional().describe('Changes whenever sequence counters may have started again'),
    encryption: z
      .looseObject({
        key: z
          .number()
          .int()
          .min(0)
          .max(255)
          .optional()
          .describe('IPsec key id 1..15, 255 for WireGuard, 0 or absent: host traffic of this node is not encrypted'),
      })
      .optional()
      .describe('Encryption of this node'),
    ipam: z
      .looseObject({
        podCIDRs: z.array(z.string()).optional().describe('Prefixes from which the pods of this node get addresses'),
      })
      .optional()
      .describe('Address management of this node'),
    health: pairOfIps.optional().describe('Addresses of the health endpoint'),
    ingress: pairOfIps.optional().describe('Addresses of the ingress'),
    'instance-id': z.string().optional().describe("The cloud provider's name of the node"),
    nodeidentity: z.number().int().optional().describe('Security identity of the node'),
  })
  .describe('What the node has and announces')

export const ciliumNodeStatusSchema = z
  .looseObject({
    ipam: z
      .looseObject({
        'operator-status': z
          .looseObject({ error: z.string().optional().describe('Why the node has no pod CIDR, or not the right one') })
          .optional()
          .describe('What the operator says of its pod CIDRs'),
      })
      .optional()
      .describe('Address management of this node'),
  })
  .describe('What was observed of the node')

const ciliumNodeSchema = z.looseObject({
  apiVersion: z.literal('cilium.io/v2').optional(),
  kind: z.literal('CiliumNode').optional(),
  metadata: metadataSchema,
  spec: ciliumNodeSpecSchema,
  status: ciliumNodeStatusSchema.optional(),
})

export type CiliumNode = z.infer<typeof ciliumNodeSchema>

export const CILIUM_NODES: Resource<CiliumNode> = {
  group: 'cilium.io',
  version: 'v2',
  kind: 'CiliumNode',
  plural: 'ciliumnodes',
  namespaced: false,
}

/** What a CiliumNode says, parsed. A wrong part is left out and told in `problems`; it never hides the rest. */
export interface NodeAnnouncement {
  readonly name: string
  readonly uid: string | undefined
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  /** `InternalIP`: where peers send to; IPv4 first as announced. */
  readonly nodeIps: readonly Ip[]
  readonly externalIps: readonly Ip[]
  /** `CiliumInternalIP`: the node's own addresses inside its pod CIDRs. */
  readonly internalIps: readonly Ip[]
  readonly podCidrs: readonly Cidr[]
  /** Undefined when there is none, or a wrong one (then `problems` says so and `publicKeyText` is what stands there). */
  readonly publicKey: PublicKey | undefined
  readonly publicKeyText: string | undefined
  /** `spec.encryption.key`; 0 when absent. */
  readonly keyId: number
  readonly bootId: string | undefined
  /** What it says of its IPsec keys; undefined when it says nothing, or something malformed (`problems` says so). */
  readonly ipsec: IpsecWords | undefined
  /** The encryption level and its epoch (core/transition). */
  readonly announcement: Announcement | undefined
  /**
   * Its stage between WireGuard and IPsec (core/transition/mode.ts). Of one that says none it is the one that its keys are for;
   * undefined when there are none either.
   */
  readonly mode: ModeWords | undefined
  /** It says that it sends to other nodes' own addresses encrypted only. */
  readonly encryptsHosts: boolean
  readonly cleanup: string | undefined
  readonly problems: readonly Fault[]
}

/** The shape alone; the fault names the first wrong field by its path. */
export function parseCiliumNode(value: unknown): Result<CiliumNode, Fault> {
  const parsed = ciliumNodeSchema.safeParse(value)
  if (parsed.success) return ok(parsed.data)
  const issue = parsed.error.issues[0]
  const field = issue?.path.map(String).join('.') ?? ''
  return fail(
    new Fault('api.cilium-node.shape', `this is no CiliumNode: ${field}: ${issue?.message ?? 'malformed'}`, { field }),
  )
}

export function readCiliumNode(node: CiliumNode): NodeAnnouncement {
  const { name, annotations = {} } = node.metadata
  const problems: Fault[] = []
  const complain = (code: string, field: string, sentence: string, remedy: string) =>
    problems.push(new Fault(code, `CiliumNode ${name}: ${sentence}`, { field, remedy }))
  const ips = (type: string) => {
    const found: Ip[] = []
    for (const [index, entry] of (node.spec.addresses ?? []).entries()) {
      if (entry.type !== type) continue
      const ip = parseIp(entry.ip ?? '')
      if (ip !== undefined) found.push(ip)
      else {
        const field = `spec.addresses[${index}].ip`
        complain('node.address', field, `${field} "${entry.ip ?? ''}" is no IP address`, `Restart the agent of ${name}`)
      }
    }
    return found
  }
  const podCidrs: Cidr[] = []
  for (const [index, text] of (node.spec.ipam?.podCIDRs ?? []).entries()) {
    const cidr = parseCidr(text)
    if (cidr !== undefined) podCidrs.push(cidr)
    else {
      const field = `spec.ipam.podCIDRs[${index}]`
      complain('node.pod-cidr', field, `${field} "${text}" is no prefix`, `Correct the pod CIDR of node ${name}`)
    }
  }
  const keyText = annotations[ANNOTATION.publicKey] ?? annotations[ANNOTATION.publicKeyAlias]
  const publicKey = keyText === undefined ? undefined : parsePublicKey(keyText)
  if (keyText !== undefined && publicKey === undefined) {
    const field = `metadata.annotations.${ANNOTATION.publicKey}`
    complain('node.public-key', field, `${field} is no WireGuard public key`, `Restart the agent of ${name}`)
  }
  const wordsText = annotations[ANNOTATION.ipsecKeys]
  const words = parseIpsecWords(wordsText)
  if (wordsText !== undefined && words === undefined) {
    const field = `metadata.annotations.${ANNOTATION.ipsecKeys}`
    complain('node.ipsec-keys', field, `${field} is malformed`, `Restart the agent of ${name}`)
  }
  const nodeIps = ips('InternalIP')
  if (nodeIps.length === 0) {
    complain('node.no-address', 'spec.addresses', 'it has no InternalIP', `Give node ${name} an InternalIP`)
  }
  return {
    name,
    uid: node.metadata.uid,
    labels: node.metadata.labels ?? {},
    annotations,
    nodeIps,
    externalIps: ips('ExternalIP'),
    internalIps: ips('CiliumInternalIP'),
    podCidrs,
    publicKey,
    publicKeyText: keyText,
    keyId: node.spec.encryption?.key ?? 0,
    bootId: node.spec.bootid,
    ipsec: words,
    announcement: parseAnnouncement(annotations[ANNOTATION.level]),
    mode: parseMode(annotations[ANNOTATION.mode]) ?? modeByKeys(keyText, words),
    encryptsHosts: annotations[ANNOTATION.nodeEncryption] === 'on',
    cleanup: annotations[ANNOTATION.cleanup],
    problems,
  }
}

/** `status.ipam.operator-status.error`; undefined when all is well with the node's pod CIDRs. */
export function operatorError(node: CiliumNode): string | undefined {
  const error = node.status?.ipam?.['operator-status']?.error
  return error === '' ? undefined : error
}

function modeByKeys(publicKey: string | undefined, words: IpsecWords | undefined): Announcement | undefined {
  if (words !== undefined) return settledIn('ipsec')
  return publicKey === undefined ? undefined : settledIn('wireguard')
}

/** What an agent says about its own node; everything undefined is left to whoever else owns it. */
export interface OwnAnnouncement {
  readonly name: string
  /** Of the Node object: it owns the CiliumNode, so that Kubernetes removes both together. */
  readonly nodeUid: string
  readonly labels?: Readonly<Record<string, string>>
  readonly nodeIps: readonly Ip[]
  readonly internalIps: readonly Ip[]
  readonly podCidrs: readonly Cidr[]
  readonly bootId: string
  /** Undefined: no annotation at all. */
  readonly publicKey: PublicKey | undefined
  /** Undefined: nothing is said of IPsec keys. */
  readonly ipsec?: IpsecWords | undefined
  /** Undefined: nothing is said. */
  readonly ipsecRead?: Reading | undefined
  /** 0 is published as absent, as Cilium does. */
  readonly keyId: number
  readonly announcement: Announcement | undefined
  /** Undefined: nothing is said. */
  readonly mode?: ModeWords | undefined
  /** Undefined: nothing is said. */
  readonly encryptsHosts?: boolean
  /** More annotations, by full name. */
  readonly annotations?: Readonly<Record<string, string>>
}

/** The whole object for server-side apply: fields that disappear from it disappear from the cluster. */
export function announceNode(own: OwnAnnouncement): CiliumNode {
  const owner: OwnerReference = { apiVersion: 'v1', kind: 'Node', name: own.name, uid: own.nodeUid }
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNode',
    metadata: {
      name: own.name,
      ...(own.labels === undefined ? {} : { labels: { ...own.labels } }),
      annotations: {
        ...own.annotations,
        ...(own.publicKey === undefined ? {} : { [ANNOTATION.publicKey]: own.publicKey }),
        ...(own.ipsec === undefined ? {} : { [ANNOTATION.ipsecKeys]: formatIpsecWords(own.ipsec) }),
        ...(own.ipsecRead === undefined ? {} : { [ANNOTATION.ipsecRead]: formatReading(own.ipsecRead) }),
        ...(own.encryptsHosts === undefined ? {} : { [ANNOTATION.nodeEncryption]: own.encryptsHosts ? 'on' : 'off' }),
        ...(own.announcement === undefined ? {} : { [ANNOTATION.level]: formatAnnouncement(own.announcement) }),
        ...(own.mode === undefined ? {} : { [ANNOTATION.mode]: formatMode(own.mode) }),
      },
      ownerReferences: [{ ...owner }],
    },
    spec: {
      addresses: [
        ...own.nodeIps.map((ip) => ({ type: 'InternalIP', ip })),
        ...own.internalIps.map((ip) => ({ type: 'CiliumInternalIP', ip })),
      ],
      bootid: own.bootId,
      ...(own.keyId === 0 ? {} : { encryption: { key: own.keyId } }),
      ipam: { podCIDRs: [...own.podCidrs] },
    },
  }
}
