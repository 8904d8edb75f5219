/**
 * Keys of ConfigMap `cilium-config` that promise something that nothing here keeps. Whoever writes one believes it: it
 * is refused, not ignored, by the agent, by `pellicle install` and by the chart (`files/config-keys.yaml`). The names are
 * Cilium's agent flags, 1.14 to 1.19.
 */
export interface RefusedKey {
  /** The texts that ask for nothing, besides the empty one. */
  readonly harmless: readonly string[]
  /** Why; a sentence without its subject. */
  readonly reason: string
  readonly remedy: string
}

const STRICT = 'strict mode is not an option here: with encryption on, nothing leaves in clear'
const NO_POLICY = 'NetworkPolicy is not enforced'
const NO_MESH = 'clusters are not meshed: nothing between them would be encrypted'
const NO_CHAINING = 'chaining to another CNI plugin is not built'
const NO_AUTHENTICATION = 'mutual authentication of pods is not built'

export const REFUSED_KEYS: Readonly<Record<string, RefusedKey>> = {
  'enable-ztunnel': flag('mTLS by ztunnel is not built', 'Use encryption.type=wireguard or ipsec'),
  'enable-encryption-strict-mode': flag(STRICT),
  'enable-encryption-strict-mode-egress': flag(STRICT),
  'enable-encryption-strict-mode-ingress': flag(STRICT),
  'encryption-strict-mode-cidr': anything(STRICT),
  'encryption-strict-egress-cidr': anything(STRICT),
  'enable-host-firewall': flag('there is no host firewall'),
  'enable-policy': { harmless: ['never'], reason: NO_POLICY, remedy: 'Set it to never' },
  'enable-k8s-networkpolicy': flag(NO_POLICY),
  'enable-k8s-clusternetworkpolicy': flag(NO_POLICY),
  'enable-cilium-network-policy': flag(NO_POLICY),
  'enable-cilium-clusterwide-network-policy': flag(NO_POLICY),
  'enable-non-default-deny-policies': flag(NO_POLICY),
  'enable-endpoint-lockdown-on-policy-overflow': flag(NO_POLICY),
  'policy-cidr-match-mode': anything(NO_POLICY),
  'policy-deny-response': { harmless: ['none'], reason: NO_POLICY, remedy: 'Remove it' },
  'mesh-auth-enabled': flag(NO_AUTHENTICATION),
  'mesh-auth-mutual-enabled': flag(NO_AUTHENTICATION),
  'cni-chaining-mode': { harmless: ['none'], reason: NO_CHAINING, remedy: 'Set it to none' },
  'cni-chaining-target': anything(NO_CHAINING),
  'clustermesh-config': anything(NO_MESH),
}

/** Undefined: `text` asks for nothing that is not there. */
export function refusalOf(key: string, text: string): RefusedKey | undefined {
  const refused = Object.hasOwn(REFUSED_KEYS, key) ? REFUSED_KEYS[key] : undefined
  const said = text.trim()
  return said === '' || refused?.harmless.includes(said) === true ? undefined : refused
}

/**
 * Keys that the chart writes itself, with the value that each is made of: a second one under `extraConfig` would win
 * over it without a word.
 */
export const CHART_KEYS: Readonly<Record<string, string>> = {
  'cluster-name': 'cluster.name',
  debug: 'debug.enabled',
  ipam: 'ipam.mode',
  'cluster-pool-ipv4-cidr': 'ipam.operator.clusterPoolIPv4PodCIDRList',
  'cluster-pool-ipv4-mask-size': 'ipam.operator.clusterPoolIPv4MaskSize',
  'cluster-pool-ipv6-cidr': 'ipam.operator.clusterPoolIPv6PodCIDRList',
  'cluster-pool-ipv6-mask-size': 'ipam.operator.clusterPoolIPv6MaskSize',
  'routing-mode': 'routingMode',
  'ipv4-native-routing-cidr': 'ipv4NativeRoutingCIDR',
  'ipv6-native-routing-cidr': 'ipv6NativeRoutingCIDR',
  'auto-direct-node-routes': 'autoDirectNodeRoutes',
  'tunnel-protocol': 'tunnelProtocol',
  'tunnel-port': 'tunnelPort',
  mtu: 'MTU',
  'enable-ipv4': 'ipv4.enabled',
  'enable-ipv6': 'ipv6.enabled',
  'enable-ipv4-masquerade': 'enableIPv4Masquerade',
  'enable-ipv6-masquerade': 'enableIPv6Masquerade',
  'enable-wireguard': 'encryption.enabled and encryption.type',
  'enable-ipsec': 'encryption.enabled and encryption.type',
  'ipsec-key-file': 'encryption.ipsec.mountPath and encryption.ipsec.keyFile',
  'enable-ipsec-key-watcher': 'encryption.ipsec.keyWatcher',
  'ipsec-key-rotation-duration': 'encryption.ipsec.keyRotationDuration',
  'encrypt-interface': 'encryption.ipsec.interface',
  'enable-ipsec-encrypted-overlay': 'encryption.ipsec.encryptedOverlay',
  'pellicle-ipsec-secret': 'encryption.ipsec.secretName',
  'pellicle-ipsec-udp-encapsulation': 'encryption.ipsec.udpEncapsulation',
  'wireguard-persistent-keepalive': 'encryption.wireguard.persistentKeepalive',
  'encrypt-node': 'encryption.nodeEncryption',
  'pellicle-cluster-cidrs': 'pellicle.clusterCIDRs',
  'pellicle-datapath': 'pellicle.datapath',
  'pellicle-profile': 'pellicle.profile',
  'log-opt': 'logOptions.format',
}

function flag(reason: string, remedy = 'Remove it'): RefusedKey {
  return { harmless: ['false'], reason, remedy }
}

function anything(reason: string): RefusedKey {
  return { harmless: [], reason, remedy: 'Remove it' }
}
