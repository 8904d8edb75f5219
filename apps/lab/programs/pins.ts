/** The programs that make a cluster, each built from its Go module. A pin is changed here and in the module's go.mod. */
export interface ProgramPin {
  readonly name: string
  readonly version: string
  /** Folder beside this file with go.mod and go.sum. */
  readonly module: string
  /** What `go build` gets: a package of the module's dependencies, or `.` for the module's own main. */
  readonly package: string
  /** Linker flags besides `-s -w`. */
  readonly linker: readonly string[]
}

export const KUBERNETES_VERSION = '1.34.4'
const ETCD_VERSION = '3.7.3'
export const COREDNS_VERSION = '1.15.0'
const HELM_VERSION = '3.19.5'

const [major, minor] = KUBERNETES_VERSION.split('.')
// what `kubectl version` says; a fixed date keeps the build reproducible
const kubernetesLinker = ['k8s.io/component-base/version', 'k8s.io/client-go/pkg/version'].flatMap((at) => [
  `-X ${at}.gitVersion=v${KUBERNETES_VERSION}`,
  `-X ${at}.gitMajor=${major}`,
  `-X ${at}.gitMinor=${minor}`,
  `-X ${at}.gitTreeState=clean`,
  `-X ${at}.gitCommit=module`,
  `-X ${at}.buildDate=2026-01-01T00:00:00Z`,
])

function kubernetes(name: string): ProgramPin {
  return {
    name,
    version: KUBERNETES_VERSION,
    module: 'kubernetes',
    package: `k8s.io/kubernetes/cmd/${name}`,
    linker: kubernetesLinker,
  }
}

/** Dearest first: the others share its packages. */
export const PROGRAMS: readonly ProgramPin[] = [
  kubernetes('kube-apiserver'),
  kubernetes('kube-controller-manager'),
  kubernetes('kubelet'),
  kubernetes('kubectl'),
  kubernetes('kube-scheduler'),
  kubernetes('kube-proxy'),
  { name: 'coredns', version: COREDNS_VERSION, module: 'coredns', package: '.', linker: [] },
  {
    name: 'helm',
    version: HELM_VERSION,
    module: 'helm',
    package: 'helm.sh/helm/v3/cmd/helm',
    linker: [`-X helm.sh/helm/v3/internal/version.version=v${HELM_VERSION}`],
  },
  { name: 'etcd', version: ETCD_VERSION, module: 'etcd', package: 'go.etcd.io/etcd/server/v3', linker: [] },
  {
    name: 'cnitool',
    version: '1.3.0',
    module: 'cnitool',
    package: 'github.com/containernetworking/cni/cnitool',
    linker: [],
  },
  { name: 'pause', version: '3.10', module: 'pause', package: '.', linker: [] },
]

/** The programs that `lab up` starts or hands to the user; the others serve images and tests. */
export const CLUSTER_PROGRAMS = [
  'etcd',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
  'kubectl',
] as const
