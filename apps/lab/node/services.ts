import { apiServerUrl, type LabLayout, type LabNode } from '../layout.ts'

/** A daemon of a node: what `node/init.sh` runs, and runs again when it ends. Waits for its gate to be opened. */
export interface Service {
  readonly name: string
  readonly command: readonly string[]
}

const PKI = '/etc/kubernetes/pki'

/** In the order in which they need each other. */
export function servicesOf(layout: LabLayout, node: LabNode): Service[] {
  return [
    ...(node.controlPlane ? controlPlane(layout, node) : []),
    { name: 'containerd', command: ['containerd', '--config', '/etc/containerd/lab.toml'] },
    {
      name: 'kubelet',
      command: [
        'kubelet',
        '--config=/var/lib/kubelet/config.yaml',
        '--kubeconfig=/etc/kubernetes/kubelet.conf',
        `--hostname-override=${node.name}`,
        `--node-ip=${node.addresses.join()}`,
      ],
    },
    { name: 'kube-proxy', command: ['kube-proxy', '--config=/etc/kubernetes/kube-proxy.yaml'] },
  ]
}

function controlPlane(layout: LabLayout, node: LabNode): Service[] {
  const etcd = 'http://127.0.0.1:2379'
  const peer = 'http://127.0.0.1:2380'
  return [
    {
      name: 'etcd',
      command: [
        'etcd',
        '--name=lab',
        '--data-dir=/var/lib/etcd',
        // the lab's data need not outlive a power cut of the machine
        '--unsafe-no-fsync',
        `--listen-client-urls=${etcd}`,
        `--advertise-client-urls=${etcd}`,
        `--listen-peer-urls=${peer}`,
        `--initial-advertise-peer-urls=${peer}`,
        `--initial-cluster=lab=${peer}`,
        '--log-level=warn',
      ],
    },
    {
      name: 'kube-apiserver',
      command: [
        'kube-apiserver',
        `--etcd-servers=${etcd}`,
        `--advertise-address=${node.addresses[0] ?? ''}`,
        '--secure-port=6443',
        `--tls-cert-file=${PKI}/apiserver.crt`,
        `--tls-private-key-file=${PKI}/apiserver.key`,
        `--client-ca-file=${PKI}/ca.crt`,
        `--kubelet-client-certificate=${PKI}/apiserver-kubelet-client.crt`,
        `--kubelet-client-key=${PKI}/apiserver-kubelet-client.key`,
        `--kubelet-certificate-authority=${PKI}/ca.crt`,
        '--kubelet-preferred-address-types=InternalIP',
        '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
        `--service-account-key-file=${PKI}/sa.pub`,
        `--service-account-signing-key-file=${PKI}/sa.key`,
        `--service-cluster-ip-range=${layout.serviceCidrs.join()}`,
        '--authorization-mode=Node,RBAC',
        '--enable-admission-plugins=NodeRestriction',
        '--allow-privileged=true',
      ],
    },
    {
      name: 'kube-controller-manager',
      command: [
        'kube-controller-manager',
        '--kubeconfig=/etc/kubernetes/controller-manager.conf',
        '--bind-address=127.0.0.1',
        '--leader-elect=false',
        `--service-account-private-key-file=${PKI}/sa.key`,
        `--root-ca-file=${PKI}/ca.crt`,
        `--cluster-signing-cert-file=${PKI}/ca.crt`,
        `--cluster-signing-key-file=${PKI}/ca.key`,
        '--use-service-account-credentials=true',
        '--allocate-node-cidrs=true',
        `--cluster-cidr=${layout.podCidrs.join()}`,
        `--service-cluster-ip-range=${layout.serviceCidrs.join()}`,
        `--cluster-name=${layout.name}`,
        '--kube-api-qps=500',
        '--kube-api-burst=1000',
        '--node-monitor-grace-period=16s',
        '--node-monitor-period=2s',
      ],
    },
    {
      name: 'kube-scheduler',
      command: [
        'kube-scheduler',
        '--kubeconfig=/etc/kubernetes/scheduler.conf',
        '--bind-address=127.0.0.1',
        '--leader-elect=false',
      ],
    },
  ]
}

/** The file that `node/init.sh` reads: a line per service. */
export function servicesScript(layout: LabLayout, node: LabNode): string {
  const lines = servicesOf(layout, node).map(
    ({ name, command }) => `service ${name} ${command.map(shellQuote).join(' ')}`,
  )
  return `# services of ${node.name}; the API server is ${apiServerUrl(layout)}\n${lines.join('\n')}\n`
}

export function shellQuote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}
