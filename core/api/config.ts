import { Fault } from '#core/fault/fault.ts'
import { fail, ok, type Result } from '#core/fault/result.ts'
import { type Cidr, cidrFamily } from '#core/ip/cidr.ts'
import { type IpsecShape, ipsecShapeFor, type UdpEncapsulation } from '#core/ipsec/shape.ts'
import {
  BOOL,
  CIDRS,
  DEVICE,
  DURATION,
  type FieldType,
  formatSecretField,
  integer,
  LOG_OPT,
  MARK,
  oneOf,
  PATH,
  RELEASE,
  SECRET_FIELD,
  SELECTOR,
  type SecretField,
  TEXT,
} from './config-fields.ts'
import { refusalOf } from './config-refused.ts'
import { IPSEC_SECRET, IPSEC_SECRET_FIELD } from './ipsec-secrets.ts'
import { CONFIG_MAP, CONTROL_PLANE_LABEL } from './names.ts'
import { nearest } from './nearest.ts'
import { type NodePools, POOL_MASKS, poolComplaints, withPools } from './pool.ts'
import { formatSelector, parseSelector, type Selector } from './selector.ts'

/**
 * ConfigMap `cilium-config` as a typed value: Cilium's keys by their names, ours begin with `pellicle-`.
 * Agent and operator read the same text. What is not written has the default of {@link CONFIG_KEYS}.
 */
export interface AgentConfig {
  readonly encryption: 'none' | 'wireguard' | 'ipsec'
  readonly ipsec: IpsecAgentConfig
  /** `encrypt-node` */
  readonly nodeEncryption: boolean
  /** Nodes with these labels keep their own host traffic out of `nodeEncryption`. No requirement: none is left out. */
  readonly optOut: Selector
  /** Whole seconds, 0 is off. */
  readonly persistentKeepalive: number
  readonly ipv4: boolean
  readonly ipv6: boolean
  readonly masquerade: { readonly 4: boolean; readonly 6: boolean }
  readonly routingMode: 'tunnel' | 'native'
  /** `routing-mode: native`: what the network between nodes carries, and whether each node is the way to its pods. */
  readonly native: { readonly cidrs: readonly Cidr[]; readonly directNodeRoutes: boolean } | undefined
  readonly tunnelProtocol: 'vxlan'
  readonly tunnelPort: number
  readonly ipam: 'kubernetes' | 'cluster-pool'
  /** `ipam: cluster-pool`: what the operator gives nodes pod CIDRs from. */
  readonly pool: NodePools
  /** Every prefix that pods may ever get, the pools among them; never empty. */
  readonly clusterCidrs: readonly Cidr[]
  /** Bytes of the underlay; 0: ask the device. */
  readonly mtu: number
  /** Cilium release whose packet shapes and texts are produced; undefined: our own choice. */
  readonly profile: string | undefined
  readonly datapath: 'auto' | 'kernel' | 'userspace'
  readonly mark: { readonly encrypt: Mark; readonly decrypt: Mark }
  readonly clusterName: string
  readonly debug: boolean
  readonly logFormat: 'logfmt' | 'json'
}

/** Means something when the encryption is `ipsec`. `ipsec-key-rotation-duration` is read and not used: no timer decides. */
interface IpsecAgentConfig {
  /** `ipsec-key-file`; undefined: keys come from the Secret alone. */
  readonly keyFile: string | undefined
  /** Name of the Secret in our namespace, and which of its fields holds the keys. */
  readonly secret: SecretField
  /** `enable-ipsec-key-watcher`: false means that a new key is read when the agent starts. */
  readonly keyWatcher: boolean
  /** `encrypt-interface`: looked for, and named when it is not there. */
  readonly interface: string | undefined
  readonly udpEncapsulation: UdpEncapsulation
  /** Follows from `pellicle-profile`, the line above and `enable-ipsec-encrypted-overlay`. */
  readonly shape: IpsecShape
}

interface Mark {
  readonly bits: number
  readonly mask: number
}

const BY_DEFAULT_OUT: Selector = parseSelector(CONTROL_PLANE_LABEL) ?? []

/** Every key that has a meaning: kind and default. */
export const CONFIG_KEYS = {
  'enable-wireguard': key(BOOL, false),
  'enable-ipsec': key(BOOL, false),
  'ipsec-key-file': key<string | undefined>(PATH, undefined),
  'enable-ipsec-key-watcher': key(BOOL, true),
  'ipsec-key-rotation-duration': key(DURATION, 300_000),
  'encrypt-interface': key<string | undefined>(DEVICE, undefined),
  'enable-ipsec-encrypted-overlay': key(BOOL, false),
  'enable-ztunnel': key(BOOL, false),
  'encrypt-node': key(BOOL, false),
  'node-encryption-opt-out-labels': key(SELECTOR, BY_DEFAULT_OUT),
  'wireguard-persistent-keepalive': key(DURATION, 0),
  'enable-encryption-strict-mode': key(BOOL, false),
  'enable-encryption-strict-mode-egress': key(BOOL, false),
  'enable-encryption-strict-mode-ingress': key(BOOL, false),
  'enable-host-firewall': key(BOOL, false),
  'enable-policy': key(oneOf('never', 'default', 'always'), 'never'),
  'enable-ipv4': key(BOOL, true),
  'enable-ipv6': key(BOOL, false),
  'enable-ipv4-masquerade': key(BOOL, true),
  'enable-ipv6-masquerade': key(BOOL, true),
  'routing-mode': key(oneOf('tunnel', 'native'), 'tunnel'),
  'ipv4-native-routing-cidr': key(CIDRS, []),
  'ipv6-native-routing-cidr': key(CIDRS, []),
  'auto-direct-node-routes': key(BOOL, false),
  'tunnel-protocol': key(oneOf('vxlan', 'geneve'), 'vxlan'),
  'tunnel-port': key(integer(1, 65535), 8472),
  ipam: key(oneOf('kubernetes', 'cluster-pool'), 'kubernetes'),
  'cluster-pool-ipv4-cidr': key(CIDRS, []),
  'cluster-pool-ipv4-mask-size': key(integer(1, POOL_MASKS[4].most), POOL_MASKS[4].standard),
  'cluster-pool-ipv6-cidr': key(CIDRS, []),
  'cluster-pool-ipv6-mask-size': key(integer(1, POOL_MASKS[6].most), POOL_MASKS[6].standard),
  mtu: key(integer(0, 65535), 0),
  'cluster-name': key(TEXT, 'default'),
  debug: key(BOOL, false),
  'log-opt': key(LOG_OPT, 'logfmt'),
  'pellicle-cluster-cidrs': key(CIDRS, []),
  'pellicle-profile': key<string | undefined>(RELEASE, undefined),
  'pellicle-ipsec-secret': key(SECRET_FIELD, { name: IPSEC_SECRET, field: IPSEC_SECRET_FIELD }),
  'pellicle-ipsec-udp-encapsulation': key(oneOf('auto', 'true', 'false'), 'auto'),
  'pellicle-datapath': key(oneOf('auto', 'kernel', 'userspace'), 'userspace'),
  'pellicle-mark-encrypt': key(MARK, { bits: 0xe00, mask: 0xf00 }),
  'pellicle-mark-decrypt': key(MARK, { bits: 0xd00, mask: 0xf00 }),
} as const

export type ConfigKey = keyof typeof CONFIG_KEYS

export interface ParsedConfig {
  readonly config: AgentConfig
  /** Keys that stand there and mean nothing to us, with the key that may have been meant. */
  readonly unknown: readonly { readonly key: string; readonly nearest: string | undefined }[]
}

/** All faults at once: whoever repairs a ConfigMap wants to do it one time. Blanks around a value do not count. */
export function parseConfig(data: Readonly<Record<string, string>>): Result<ParsedConfig, readonly Fault[]> {
  const faults: Fault[] = []
  const complain = (name: string, sentence: string, remedy: string) =>
    faults.push(new Fault('config.invalid', `${CONFIG_MAP}: ${name}: ${sentence}`, { field: name, remedy }))
  const read = <K extends ConfigKey>(name: K): (typeof CONFIG_KEYS)[K]['standard'] => {
    const { type, standard } = CONFIG_KEYS[name] as Key<(typeof CONFIG_KEYS)[K]['standard']>
    const text = Object.hasOwn(data, name) ? data[name]?.trim() : undefined
    // an empty selector is a decision (opt nobody out); any other empty value is a chart's way of saying nothing
    if (text === undefined || (text === '' && name !== 'node-encryption-opt-out-labels')) return standard
    const value = type.parse(text)
    if (value === undefined) {
      complain(name, `"${shorten(text)}" is not ${type.expects}`, `Set ${name} to ${type.expects}`)
      return standard
    }
    return value
  }
  const refuse = (name: ConfigKey, wrong: boolean, sentence: string, remedy: string) => {
    if (wrong) complain(name, sentence, remedy)
  }

  const [wireguard, ipsec] = [read('enable-wireguard'), read('enable-ipsec')]
  // read so that a wrong text is told; no timer decides about keys
  read('ipsec-key-rotation-duration')
  const [profile, udpEncapsulation] = [read('pellicle-profile'), read('pellicle-ipsec-udp-encapsulation')]
  const [ipv4, ipv6] = [read('enable-ipv4'), read('enable-ipv6')]
  const keepalive = read('wireguard-persistent-keepalive')
  const ipam = read('ipam')
  const routingMode = read('routing-mode')
  const masquerade = { 4: read('enable-ipv4-masquerade'), 6: read('enable-ipv6-masquerade') }
  const carried = { 4: read('ipv4-native-routing-cidr'), 6: read('ipv6-native-routing-cidr') }
  const pool = {
    4: { cidrs: read('cluster-pool-ipv4-cidr'), maskSize: read('cluster-pool-ipv4-mask-size') },
    6: { cidrs: read('cluster-pool-ipv6-cidr'), maskSize: read('cluster-pool-ipv6-mask-size') },
  }
  const pooled = ipam === 'cluster-pool'
  const pools = pooled ? [...(ipv4 ? [pool[4]] : []), ...(ipv6 ? [pool[6]] : [])] : []
  const clusterCidrs = withPools(read('pellicle-cluster-cidrs'), pools)

  for (const name of Object.keys(data)) {
    const refused = refusalOf(name, data[name] as string)
    if (refused === undefined) continue
    const before = faults.length
    // a text of the wrong kind says so itself
    if (Object.hasOwn(CONFIG_KEYS, name)) read(name as ConfigKey)
    if (faults.length === before) complain(name, refused.reason, refused.remedy)
  }
  refuse(
    'enable-ipsec',
    ipsec && wireguard,
    // as Cilium says it
    'WireGuard (--enable-wireguard) cannot be used with IPsec (--enable-ipsec)',
    'Set one of them to false',
  )
  refuse('tunnel-protocol', read('tunnel-protocol') === 'geneve', 'Geneve is not built', 'Set it to vxlan')
  refuse('enable-ipv4', !ipv4 && !ipv6, 'enable-ipv4 and enable-ipv6 are both false', 'Set one of them to true')
  refuse(
    'wireguard-persistent-keepalive',
    keepalive % 1000 !== 0 || keepalive > 65_535_000,
    'WireGuard counts keepalives in whole seconds up to 65535',
    'Set it to whole seconds, or 0s',
  )
  if (clusterCidrs.length === 0 && !pooled && !faults.some((fault) => fault.field === 'pellicle-cluster-cidrs')) {
    complain(
      'pellicle-cluster-cidrs',
      'it is missing: without it a pod CIDR that was not seen yet would leave by the default route',
      'Set it to every prefix that pods may get, e.g. 10.244.0.0/16 (install finds it out by itself)',
    )
  }
  for (const [family, on] of [
    [4, ipv4],
    [6, ipv6],
  ] as const) {
    if (on && !pooled && clusterCidrs.length > 0 && !clusterCidrs.some((cidr) => cidrFamily(cidr) === family)) {
      complain('pellicle-cluster-cidrs', `it has no IPv${family} prefix while enable-ipv${family} is true`, 'Add one')
    }
    const range = `ipv${family}-native-routing-cidr` as const
    refuse(
      range,
      routingMode === 'native' && on && masquerade[family] && carried[family].length === 0,
      `it must be set when routing-mode is native and enable-ipv${family}-masquerade is true`,
      'Set it to the prefix that the network between nodes carries, such as that of all pods',
    )
    refuse(
      range,
      carried[family].some((cidr) => cidrFamily(cidr) !== family),
      `not all of it is IPv${family}`,
      `Write IPv${family} prefixes`,
    )
    if (!pooled) continue
    const name = `cluster-pool-ipv${family}-cidr` as const
    if (on && pool[family].cidrs.length === 0) {
      complain(name, `ipam is cluster-pool and enable-ipv${family} is true, but there is no pool`, 'Set it')
    }
    for (const { sentence, remedy } of poolComplaints(family, pool[family])) complain(name, sentence, remedy)
  }

  const config: AgentConfig = {
    encryption: ipsec ? 'ipsec' : wireguard ? 'wireguard' : 'none',
    ipsec: {
      keyFile: read('ipsec-key-file'),
      secret: read('pellicle-ipsec-secret'),
      keyWatcher: read('enable-ipsec-key-watcher'),
      interface: read('encrypt-interface'),
      udpEncapsulation,
      shape: ipsecShapeFor({
        profile,
        udpEncapsulation,
        encryptedOverlay: read('enable-ipsec-encrypted-overlay'),
        native: routingMode === 'native',
      }),
    },
    nodeEncryption: read('encrypt-node'),
    optOut: read('node-encryption-opt-out-labels'),
    persistentKeepalive: Math.floor(keepalive / 1000),
    ipv4,
    ipv6,
    masquerade,
    routingMode,
    native:
      routingMode === 'native'
        ? { cidrs: [...carried[4], ...carried[6]], directNodeRoutes: read('auto-direct-node-routes') }
        : undefined,
    tunnelProtocol: 'vxlan',
    tunnelPort: read('tunnel-port'),
    ipam,
    pool,
    clusterCidrs,
    mtu: read('mtu'),
    profile,
    datapath: read('pellicle-datapath'),
    mark: { encrypt: read('pellicle-mark-encrypt'), decrypt: read('pellicle-mark-decrypt') },
    clusterName: read('cluster-name'),
    debug: read('debug'),
    logFormat: read('log-opt'),
  }
  // the least that IP asks for inside, and room for both encapsulations
  const leastMtu = (ipv6 ? 1280 : 576) + (ipsec ? 200 : 150)
  refuse(
    'mtu',
    config.mtu !== 0 && config.mtu < leastMtu,
    `${config.mtu} leaves too little for a pod's packets`,
    `Set it to 0 or at least ${leastMtu}`,
  )
  if (faults.length > 0) return fail(faults)
  const unknown = Object.keys(data)
    .filter((name) => !Object.hasOwn(CONFIG_KEYS, name))
    .map((name) => ({ key: name, nearest: nearest(name, Object.keys(CONFIG_KEYS)) }))
  return ok({ config, unknown })
}

/** For the writers of ConfigMaps: the text of a default. */
export function defaultText(name: ConfigKey): string {
  const value: string | number | boolean | undefined | Mark | SecretField | readonly Cidr[] | Selector =
    CONFIG_KEYS[name].standard
  if (value === undefined) return ''
  if (name === 'node-encryption-opt-out-labels') return formatSelector(CONFIG_KEYS[name].standard)
  if (name === 'log-opt') return `format=${value === 'json' ? 'json' : 'text'}`
  if (name === 'pellicle-ipsec-secret') return formatSecretField(CONFIG_KEYS[name].standard)
  if (name === 'ipsec-key-rotation-duration') return `${Number(value) / 60_000}m`
  if (name === 'wireguard-persistent-keepalive') return `${Number(value) / 1000}s`
  if (typeof value !== 'object') return String(value)
  if ('bits' in value) return `0x${value.bits.toString(16)}/0x${value.mask.toString(16)}`
  return (value as readonly Cidr[]).join(' ')
}

interface Key<T> {
  readonly type: FieldType<T & ({} | null)>
  readonly standard: T
}

function key<T>(type: FieldType<T & ({} | null)>, standard: NoInfer<T>): Key<T> {
  return { type, standard }
}

function shorten(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}
