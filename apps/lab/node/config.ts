import { stringify } from 'yaml'
import type { LabLayout } from '../layout.ts'

// Configuration files of a node's daemons. What each setting is for where it is not plain: docs/adr/0006-lab.md.

export const PAUSE_IMAGE = 'localhost/pause:3.10'

/** `baseSpec`: path of a file that every container's specification begins with. */
export function containerdConfig(baseSpec: string | undefined): string {
  return `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  stream_server_address = "127.0.0.1"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
${baseSpec === undefined ? '' : `      base_runtime_spec = "${baseSpec}"\n`}
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`
}

export function kubeletConfig(layout: LabLayout): string {
  return stringify({
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
    cgroupDriver: 'cgroupfs',
    failSwapOn: false,
    failCgroupV1: false,
    oomScoreAdj: 0,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: '/etc/kubernetes/pki/ca.crt' },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: '/etc/kubernetes/pki/kubelet.crt',
    tlsPrivateKeyFile: '/etc/kubernetes/pki/kubelet.key',
    staticPodPath: '/etc/kubernetes/manifests',
    resolvConf: '/etc/resolv.conf',
    clusterDomain: 'cluster.local',
    clusterDNS: [...layout.dnsAddresses],
    // the machine's disk is shared: nodes must not evict because of what others put there
    evictionHard: {
      'memory.available': '100Mi',
      'nodefs.available': '1%',
      'imagefs.available': '1%',
      'nodefs.inodesFree': '1%',
    },
    // images come from no registry, so none may be collected
    imageGCHighThresholdPercent: 100,
    nodeStatusUpdateFrequency: '4s',
    syncFrequency: '10s',
    logging: { verbosity: 1 },
  })
}

export function kubeProxyConfig(layout: LabLayout, nodeName: string): string {
  return stringify({
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode: 'nftables',
    clusterCIDR: layout.podCidrs.join(),
    hostnameOverride: nodeName,
    clientConnection: { kubeconfig: '/etc/kubernetes/kube-proxy.conf' },
    // pods are what comes in through their own devices; a CIDR would also match what a tunnel delivers
    detectLocalMode: 'InterfaceNamePrefix',
    detectLocal: { interfaceNamePrefix: 'lxc' },
    // sizes of the connection table belong to the machine, not to a node
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    oomScoreAdj: 0,
    metricsBindAddress: '127.0.0.1:10249',
  })
}
