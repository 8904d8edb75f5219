/**
 * What Cilium's chart has and we do not: facts of `install/kubernetes/cilium/README.md`, 1.14 to 1.19, kept so that a
 * value meant for Cilium is told apart from a slip of the pen.
 */

export interface Refusal {
  /** The value, or the subtree below it. */
  readonly path: string
  /** Why; a sentence without its subject. */
  readonly reason: string
  readonly remedy?: string
  /** Texts that ask for nothing, besides false, empty and 0. */
  readonly harmless?: readonly string[]
}

/** Values that promise something, mostly a security property, that nothing here keeps. Checked before all others; turned off they are fine. */
export const REFUSED: readonly Refusal[] = [
  {
    path: 'encryption.strictMode',
    reason: "Cilium's strict mode is not built; with encryption on, traffic between nodes never leaves in clear anyway",
  },
  {
    path: 'encryption.ztunnel',
    reason: 'mTLS by ztunnel is not built',
    remedy: 'Use encryption.type=wireguard or ipsec',
  },
  {
    path: 'hostFirewall',
    reason: 'there is no host firewall: nodes would stand open',
    remedy: "Use nftables or the cloud's firewall",
  },
  {
    path: 'policyEnforcementMode',
    reason: 'NetworkPolicy is not enforced',
    remedy: 'Remove it, or set it to never',
    harmless: ['never'],
  },
  { path: 'policyCIDRMatchMode', reason: 'NetworkPolicy is not enforced' },
  { path: 'policyDenyResponse', reason: 'NetworkPolicy is not enforced', harmless: ['none'] },
  { path: 'k8sNetworkPolicy.enabled', reason: 'NetworkPolicy is not enforced', remedy: 'Set it to false' },
  { path: 'enableNonDefaultDenyPolicies', reason: 'NetworkPolicy is not enforced' },
  { path: 'authentication', reason: 'mutual authentication of pods is not built' },
  { path: 'endpointLockdownOnMapOverflow', reason: 'pods are never locked down: NetworkPolicy is not enforced' },
  {
    path: 'cni.chainingMode',
    reason: 'chaining to another CNI plugin is not built',
    remedy: 'Remove it, or set it to none',
    harmless: ['none'],
  },
  { path: 'cni.chainingTarget', reason: 'chaining to another CNI plugin is not built' },
  {
    path: 'ipam.operator.clusterPoolIPv4PodCIDR',
    reason: 'Cilium has removed it: nodes would get pod CIDRs of another pool',
    remedy: 'Use ipam.operator.clusterPoolIPv4PodCIDRList',
  },
  {
    path: 'ipam.operator.clusterPoolIPv6PodCIDR',
    reason: 'Cilium has removed it: nodes would get pod CIDRs of another pool',
    remedy: 'Use ipam.operator.clusterPoolIPv6PodCIDRList',
  },
  { path: 'clustermesh.useAPIServer', reason: 'clusters are not meshed: nothing between them would be encrypted' },
  { path: 'clustermesh.config.enabled', reason: 'clusters are not meshed: nothing between them would be encrypted' },
]

/** Better than "it has no meaning here". */
export const OWN_REASONS: Readonly<Record<string, string>> = {
  kubeProxyReplacement: 'Services are the work of kube-proxy, which must run',
  nodePort: 'Services are the work of kube-proxy',
  loadBalancer: 'Services are the work of kube-proxy',
  socketLB: 'Services are the work of kube-proxy',
  hostPort: 'host ports are not built: a hostPort of a pod does nothing here',
  externalIPs: 'Services are the work of kube-proxy',
  maglev: 'Services are the work of kube-proxy',
  svcSourceRangeCheck: 'kube-proxy checks the source ranges of Services',
  bpf: 'there is no eBPF here',
  devices: 'encrypted packets leave by the device that routes to the other node, and are taken from any',
  'daemon.enableSourceIPVerification': "a pod's source address is checked on its own node in any case",
  hubble: 'there is no Hubble here; see pellicle encryption status',
  envoy: 'there is no L7 proxy here',
  l7Proxy: 'there is no L7 proxy here',
  egressGateway: 'there is no egress gateway: pods leave the cluster by their own node',
  'encryption.wireguard.userspaceFallback': 'WireGuard runs in userspace here in any case',
  'encryption.wireguard.encapsulate': "pods' packets go into WireGuard as they are",
  'encryption.keyFile': 'Cilium has removed it; it is encryption.ipsec.keyFile',
  'encryption.mountPath': 'Cilium has removed it; it is encryption.ipsec.mountPath',
  'encryption.secretName': 'Cilium has removed it; it is encryption.ipsec.secretName',
  'encryption.interface': 'Cilium has removed it; it is encryption.ipsec.interface',
}

/** Of the values that we have, those that change nothing: told where they are not the default. */
export const IDLE: Readonly<Record<string, { readonly standard: unknown; readonly reason: string }>> = {
  'encryption.ipsec.keyRotationDuration': {
    standard: '5m',
    reason: 'no timer decides here when an old key goes: nodes remove it when no other node sends by it any more',
  },
}

/** Top-level names. */
export const CILIUM_VALUES: ReadonlySet<string> = new Set(
  `MTU affinity agent agentNotReadyTaintKey aksbyocni alibabacloud annotateK8sNode annotations apiRateLimit authentication
  autoDirectNodeRoutes azure bandwidthManager bgp bgpControlPlane bpf bpfClockProbe certgen cgroup ciliumEndpointSlice
  cleanBpfState cleanState cluster clustermesh cni commonLabels connectivityProbeFrequencyRatio conntrackGCInterval
  conntrackGCMaxInterval containerRuntime crdWaitTimeout customCalls daemon dashboards debug defaultLBServiceIPAM devices
  directRoutingSkipUnreachable disableEndpointCRD dnsPolicy dnsProxy egressGateway enableCiliumEndpointSlice
  enableCnpStatusUpdates enableCriticalPriorityClass enableIPv4BIGTCP enableIPv4Masquerade enableIPv6BIGTCP
  enableIPv6Masquerade enableInternalTrafficPolicy enableK8sEventHandover enableK8sTerminatingEndpoint enableLBIPAM
  enableMasqueradeRouteSource enableNoServiceEndpointsRoutable enableNonDefaultDenyPolicies enableRuntimeDeviceDetection
  enableTunnelBIGTCP enableXTSocketFallback encryption endpointHealthChecking endpointLockdownOnMapOverflow endpointRoutes
  endpointStatus eni envoy envoyConfig etcd externalIPs externalWorkloads extraArgs extraConfig extraContainers extraEnv
  extraHostPathMounts extraInitContainers extraVolumeMounts extraVolumes forceDeviceDetection gatewayAPI gke global
  healthChecking healthPort highScaleIPcache hostFirewall hostPort hubble identityAllocationMode identityChangeGracePeriod
  identityManagementMode image imagePullSecrets ingressController initResources installNoConntrackIptablesRules ipMasqAgent
  ipam ipv4 ipv4NativeRoutingCIDR ipv6 ipv6NativeRoutingCIDR iptablesRandomFully k8s k8sClientExponentialBackoff
  k8sClientRateLimit k8sNetworkPolicy k8sServiceHost k8sServiceHostRef k8sServiceLookupConfigMapName
  k8sServiceLookupNamespace k8sServicePort keepDeprecatedLabels keepDeprecatedProbes kubeConfigPath kubeProxyReplacement
  kubeProxyReplacementHealthzBindAddr l2NeighDiscovery l2announcements l2podAnnouncements l7Proxy livenessProbe
  loadBalancer localRedirectPolicies localRedirectPolicy logSystemLoad maglev monitor name namespaceOverride nat
  nat46x64Gateway nodeIPAM nodePort nodeSelector nodeSelectorLabels nodeinit operator pmtuDiscovery podAnnotations
  podLabels podSecurityContext policyCIDRMatchMode policyDenyResponse policyEnforcementMode pprof preflight
  priorityClassName prometheus proxy rbac readinessProbe remoteNodeIdentity resourceQuotas resources rollOutCiliumPods
  routingMode scheduling sctp secretsNamespaceAnnotations secretsNamespaceLabels securityContext serviceAccounts
  serviceNoBackendResponse sleepAfterInit socketLB standaloneDnsProxy startupProbe svcSourceRangeCheck synchronizeK8sNodes
  terminationGracePeriodSeconds tls tmpVolume tolerations tunnel tunnelPort tunnelProtocol tunnelSourcePortRange
  underlayProtocol updateStrategy upgradeCompatibility vtep waitForKubeProxy wellKnownIdentities
  writeCNIConfWhenReady`.split(/\s+/),
)

/** Names inside trees that we know some of. */
export const CILIUM_SUB_VALUES: Readonly<Record<string, ReadonlySet<string>>> = {
  encryption: new Set(['strictMode', 'ztunnel', 'keyFile', 'mountPath', 'secretName', 'interface']),
  'encryption.wireguard': new Set(['userspaceFallback', 'encapsulate']),
  image: new Set(['override', 'digest', 'useDigest']),
  ipam: new Set(['ciliumNodeUpdateRate', 'installUplinkRoutesForDelegatedIPAM', 'multiPoolPreAllocation', 'nodeSpec']),
  'ipam.operator': new Set(['autoCreateCiliumPodIPPools', 'externalAPILimitBurstSize', 'externalAPILimitQPS']),
  cluster: new Set(['id']),
  cni: new Set(
    `install uninstall chainingMode chainingTarget exclusive logFile customConf configMap configMapKey confFileMountPath
    hostConfDirMountPath readCniConf resources enableRouteMTUForCNIChaining iptablesRemoveAWSRules externalRouting
    disableExternalRouting`.split(/\s+/),
  ),
  prometheus: new Set(['controllerGroupMetrics', 'metrics', 'metricsService', 'serviceMonitor']),
  debug: new Set(['verbose', 'metricsSamplingInterval']),
  operator: new Set(
    `rollOutPods image name dnsPolicy updateStrategy affinity topologySpreadConstraints hostNetwork annotations
    podAnnotations podLabels podDisruptionBudget podSecurityContext securityContext extraArgs extraEnv extraHostPathMounts
    extraVolumes extraVolumeMounts extraInitContainers endpointGCInterval nodeGCInterval identityGCInterval
    identityHeartbeatTimeout pprof prometheus tls dashboards skipCRDCreation removeNodeTaints setNodeTaints setNodeNetworkStatus
    unmanagedPodWatcher skipCNPStatusStartupClean commonLabels`.split(/\s+/),
  ),
}
