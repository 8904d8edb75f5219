import { z } from 'zod'
import { Fault } from '#core/fault/fault.ts'
import { FAMILIES } from '#core/ip/address.ts'
import { type Cidr, parseCidr } from '#core/ip/cidr.ts'
import { CIDRS } from './config-fields.ts'
import { parseDuration } from './duration.ts'
import { judgeExtraConfig } from './extra-config.ts'
import type { Judgement } from './judgement.ts'
import { nearest } from './nearest.ts'
import { POOL_MASKS, type PoolComplaint, poolComplaints, poolNames } from './pool.ts'
import { CILIUM_SUB_VALUES, CILIUM_VALUES, IDLE, OWN_REASONS, REFUSED, type Refusal } from './values-catalog.ts'
import { invalidValue } from './values-invalid.ts'

/**
 * The values of the Helm chart, with Cilium's names and types; what Cilium has no name for stands under
 * `pellicle`. `deploy/chart/values.schema.json` is made of it. Other values of Cilium's chart may stand beside them:
 * what becomes of those says {@link judgeValues}.
 */
const duration = z
  .string()
  .refine((text) => parseDuration(text) !== undefined, 'a duration such as 25s, or 0s')
  .describe('A Go duration')
const cidr = z.string().refine((text) => parseCidr(text) !== undefined, 'a prefix such as 10.244.0.0/16')
/** Cilium's chart takes a text of several, too. */
const poolList = z.union([
  z.array(cidr),
  z.string().refine((text) => CIDRS.parse(text) !== undefined, 'prefixes such as 10.0.0.0/8, separated by blanks'),
])
const port = z.number().int().min(0).max(65535)
const anyObject = z.record(z.string(), z.unknown())
const tolerations = z.array(anyObject)
const texts = z.record(z.string(), z.string())
const family = z.looseObject({ enabled: z.boolean() }).partial()

export const valuesSchema = z
  .looseObject({
    encryption: z
      .looseObject({
        enabled: z.boolean(),
        type: z.enum(['wireguard', 'ipsec', 'ztunnel']),
        nodeEncryption: z.boolean(),
        wireguard: z.looseObject({ persistentKeepalive: duration }).partial(),
        ipsec: z
          .looseObject({
            secretName: z.string().regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, 'the name of a Secret'),
            keyFile: z.string().regex(/^[-._a-zA-Z0-9]+$/, "the name of one of the Secret's entries"),
            mountPath: z.string().startsWith('/'),
            keyWatcher: z.boolean(),
            keyRotationDuration: duration,
            interface: z.string().regex(/^[^\s/:]{0,15}$/, 'the name of a network device, or nothing'),
            encryptedOverlay: z.boolean(),
            udpEncapsulation: z.union([z.boolean(), z.enum(['auto', 'true', 'false'])]),
          })
          .partial(),
      })
      .partial(),
    pellicle: z
      .strictObject({
        clusterCIDRs: z.array(cidr),
        profile: z.string().regex(/^(v?[0-9]+\.[0-9]+(\.[0-9]+)?([-+].*)?)?$/, 'a release such as 1.14.5, or nothing'),
        datapath: z.enum(['auto', 'kernel', 'userspace']),
      })
      .partial(),
    image: z
      .looseObject({
        repository: z.string().min(1),
        tag: z.string(),
        pullPolicy: z.enum(['Always', 'IfNotPresent', 'Never']),
      })
      .partial(),
    imagePullSecrets: z.array(anyObject),
    ipam: z
      .looseObject({
        mode: z.enum(['kubernetes', 'cluster-pool']),
        operator: z
          .looseObject({
            clusterPoolIPv4PodCIDRList: poolList,
            clusterPoolIPv4MaskSize: z.number().int().min(1).max(POOL_MASKS[4].most),
            clusterPoolIPv6PodCIDRList: poolList,
            clusterPoolIPv6MaskSize: z.number().int().min(1).max(POOL_MASKS[6].most),
          })
          .partial(),
      })
      .partial(),
    routingMode: z.enum(['tunnel', 'native', '']),
    ipv4NativeRoutingCIDR: z.union([cidr, z.literal('')]),
    ipv6NativeRoutingCIDR: z.union([cidr, z.literal('')]),
    autoDirectNodeRoutes: z.boolean(),
    tunnelProtocol: z.enum(['vxlan', 'geneve', '']),
    tunnelPort: port,
    MTU: port,
    ipv4: family,
    ipv6: family,
    enableIPv4Masquerade: z.boolean(),
    enableIPv6Masquerade: z.boolean(),
    cluster: z.looseObject({ name: z.string().min(1) }).partial(),
    cni: z.looseObject({ binPath: z.string().startsWith('/'), confPath: z.string().startsWith('/') }).partial(),
    k8sServiceHost: z.string(),
    k8sServicePort: z.union([z.string(), z.number()]),
    debug: z.looseObject({ enabled: z.boolean() }).partial(),
    prometheus: z.looseObject({ enabled: z.boolean(), port: z.number().int().min(1).max(65535) }).partial(),
    logOptions: z.looseObject({ format: z.enum(['text', 'json']) }).partial(),
    extraConfig: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
    tolerations,
    nodeSelector: texts,
    affinity: anyObject,
    podAnnotations: texts,
    podLabels: texts,
    priorityClassName: z.string(),
    terminationGracePeriodSeconds: z.number().int().min(0),
    updateStrategy: anyObject,
    resources: anyObject,
    securityContext: anyObject,
    keeper: z
      .strictObject({
        resources: anyObject,
        terminationGracePeriodSeconds: z.number().int().min(0),
        securityContext: anyObject,
      })
      .partial(),
    operator: z
      .looseObject({
        enabled: z.boolean(),
        replicas: z.number().int().min(1),
        tolerations,
        nodeSelector: texts,
        priorityClassName: z.string(),
        resources: anyObject,
      })
      .partial(),
  })
  .partial()

type Values = z.infer<typeof valuesSchema>

export type Verdict =
  | { readonly kind: 'supported' }
  /** A value of Cilium's chart that changes nothing here. */
  | { readonly kind: 'meaningless'; readonly reason: string }
  /** It promises a security property that nothing here keeps, or something that is not built. */
  | { readonly kind: 'refused'; readonly reason: string; readonly remedy: string }
  | { readonly kind: 'unknown'; readonly nearest: string | undefined }

/** One value by its path, such as `encryption.enabled`; an element of a list as `tolerations[0].key`. */
export function judgeValue(path: string, value: unknown): Verdict {
  const refusal = REFUSED.find((candidate) => matches(candidate, path))
  if (refusal !== undefined) {
    return isOff(refusal, value)
      ? { kind: 'meaningless', reason: 'this is off here in any case' }
      : { kind: 'refused', reason: refusal.reason, remedy: refusal.remedy ?? `Remove ${refusal.path}` }
  }
  const idle = Object.hasOwn(IDLE, path) ? IDLE[path] : undefined
  if (idle !== undefined && idle.standard !== value) return { kind: 'meaningless', reason: idle.reason }
  const steps = path.split('.').map((step) => step.replace(/\[\d+\]$/, ''))
  let shape: z.ZodType | undefined = valuesSchema
  for (const [depth, step] of steps.entries()) {
    const fields = fieldsOf(shape)
    // a free subtree (resources, tolerations, …): whatever stands there is the user's own business
    if (fields === undefined) return { kind: 'supported' }
    if (!Object.hasOwn(fields, step)) return stranger(steps, depth, Object.keys(fields))
    shape = fields[step]
  }
  return { kind: 'supported' }
}

/** All that a user gave (`--set`, `--values`), not the chart's defaults: names, types, and what does not go together. */
export function judgeValues(values: Readonly<Record<string, unknown>>): Judgement {
  const faults: Fault[] = []
  const notes: { path: string; reason: string }[] = []
  const told = new Set<string>()
  for (const [path, value] of leaves(values, '')) {
    const verdict = judgeValue(path, value)
    if (verdict.kind === 'meaningless') {
      // one line for a whole subtree of Cilium's
      const top = Object.hasOwn(valuesSchema.shape, firstStep(path)) ? path : firstStep(path)
      if (!told.has(top)) notes.push({ path: top, reason: verdict.reason })
      told.add(top)
    } else if (verdict.kind === 'refused') {
      faults.push(new Fault('values.refused', `${path}: ${verdict.reason}`, { field: path, remedy: verdict.remedy }))
    } else if (verdict.kind === 'unknown') {
      const remedy = verdict.nearest === undefined ? 'Remove it' : `Did you mean ${verdict.nearest}?`
      faults.push(new Fault('values.unknown', `there is no value ${path}`, { field: path, remedy }))
    }
  }
  const typed = valuesSchema.safeParse(values)
  for (const issue of typed.success ? [] : typed.error.issues) {
    const field = issue.path.map(String).join('.')
    if (faults.some((fault) => fault.field === field) || issue.code === 'unrecognized_keys') continue
    faults.push(invalidValue(issue, values))
  }
  if (typed.success) {
    faults.push(...contradictions(typed.data))
    const extra = judgeExtraConfig(typed.data.extraConfig ?? {})
    faults.push(...extra.faults)
    notes.push(...extra.notes)
  }
  return { faults, notes }
}

function contradictions(values: Values): Fault[] {
  const faults: Fault[] = []
  const add = (field: string, sentence: string, remedy: string) =>
    faults.push(new Fault('values.refused', `${field}: ${sentence}`, { field, remedy }))
  const { encryption, ipv4, ipv6 } = values
  if (values.tunnelProtocol === 'geneve') {
    add('tunnelProtocol', 'Geneve is not built', 'Remove it, or set it to vxlan')
  }
  if (encryption?.enabled === true && encryption.type === 'ztunnel') {
    add(
      'encryption.type',
      'ztunnel is not built: nothing would be encrypted',
      'Add --set encryption.type=wireguard, or ipsec',
    )
  }
  if (encryption?.nodeEncryption === true && encryption.enabled !== true) {
    add(
      'encryption.nodeEncryption',
      'it promises encryption while encryption.enabled is not set',
      'Add --set encryption.enabled=true',
    )
  }
  if (values.routingMode === 'native' && values.enableIPv4Masquerade !== false && ipv4?.enabled !== false) {
    if ((values.ipv4NativeRoutingCIDR ?? '') === '') {
      add(
        'ipv4NativeRoutingCIDR',
        // as Cilium's chart says it
        'ipv4NativeRoutingCIDR must be set when routingMode is native',
        'Add --set ipv4NativeRoutingCIDR= with the prefix that the network between nodes carries',
      )
    }
  }
  for (const { field, sentence, remedy } of poolsOf(values)) add(field, sentence, remedy)
  if (ipv4?.enabled === false && ipv6?.enabled !== true) {
    add('ipv4.enabled', 'without IPv4 and IPv6 pods would have no address', 'Add --set ipv6.enabled=true')
  }
  return faults
}

/** What is wrong with `ipam.operator`; what is missing there is found by install, or told by the chart. */
function poolsOf({ ipam, operator }: Values): readonly (PoolComplaint & { readonly field: string })[] {
  if (ipam?.mode !== 'cluster-pool') return []
  const given = ipam.operator ?? {}
  const complaints = FAMILIES.flatMap((of) => {
    const cidrs = poolPrefixes(given[`clusterPoolIPv${of}PodCIDRList`])
    const maskSize = given[`clusterPoolIPv${of}MaskSize`] ?? POOL_MASKS[of].standard
    return poolComplaints(of, { cidrs, maskSize }).map((each) => ({ ...each, field: poolNames(of).value }))
  })
  if (operator?.enabled !== false) return complaints
  const sentence = 'the operator is what gives nodes their pod CIDRs with ipam.mode=cluster-pool'
  return [
    ...complaints,
    { field: 'operator.enabled', sentence, remedy: 'Leave it at true, or use ipam.mode=kubernetes' },
  ]
}

/** Of `ipam.operator.clusterPoolIPv4PodCIDRList`, a list or a text; what is no prefix is left out. */
export function poolPrefixes(value: unknown): readonly Cidr[] {
  const parts = Array.isArray(value) ? value.map(String) : typeof value === 'string' ? value.split(/[\s,]+/) : []
  return parts.flatMap((text) => parseCidr(text) ?? [])
}

function stranger(steps: readonly string[], depth: number, siblings: readonly string[]): Verdict {
  const [top] = steps as [string]
  const step = steps[depth] as string
  const parents = steps.slice(0, depth)
  const own = OWN_REASONS[steps.slice(0, depth + 1).join('.')] ?? OWN_REASONS[top]
  if (depth === 0) {
    if (CILIUM_VALUES.has(top)) return { kind: 'meaningless', reason: own ?? 'it has no meaning here' }
    return { kind: 'unknown', nearest: nearest(top, [...siblings, ...CILIUM_VALUES]) }
  }
  const known = CILIUM_SUB_VALUES[parents.join('.')]
  if (known?.has(step) === true) return { kind: 'meaningless', reason: own ?? 'it has no meaning here' }
  const close = nearest(step, [...siblings, ...(known ?? [])])
  return { kind: 'unknown', nearest: close === undefined ? undefined : [...parents, close].join('.') }
}

function matches(refusal: Refusal, path: string): boolean {
  return path === refusal.path || path.startsWith(`${refusal.path}.`)
}

function isOff(refusal: Refusal, value: unknown): boolean {
  if (refusal.harmless?.includes(value as never) === true) return true
  if (value === false || value === null || value === undefined || value === '' || value === 0) return true
  return typeof value === 'object' && Object.keys(value).length === 0
}

/** The named fields of an object's schema; undefined when it is none, or has no names of its own. */
function fieldsOf(shape: z.ZodType | undefined): Readonly<Record<string, z.ZodType>> | undefined {
  let inner: unknown = shape
  while (inner instanceof z.ZodOptional) inner = inner.unwrap()
  return inner instanceof z.ZodObject ? inner.shape : undefined
}

function firstStep(path: string): string {
  return path.split(/[.[]/, 1)[0] as string
}

function* leaves(value: unknown, path: string): Generator<[string, unknown], void, undefined> {
  if (typeof value !== 'object' || value === null || Object.keys(value).length === 0) {
    if (path !== '') yield [path, value]
    return
  }
  for (const [key, inner] of Object.entries(value)) {
    yield* leaves(inner, Array.isArray(value) ? `${path}[${key}]` : path === '' ? key : `${path}.${key}`)
  }
}
