import { readFileSync } from 'node:fs'
import { apiServerUrl, type IpFamily, type LabLayout, type LabNode } from '../layout.ts'
import { BASE_SPEC } from '../node/apt.ts'
import { containerdConfig, kubeletConfig, kubeProxyConfig } from '../node/config.ts'
import { type Authority, type Issued, issue, makeTokenKey, type Request } from '../pki/certificate.ts'
import { kubeconfig } from '../pki/kubeconfig.ts'

/** The files that kubeadm would write into a node, by their paths there; `extra` are the lab's own (see aptFiles). */
export function nodeFiles(
  layout: LabLayout,
  node: LabNode,
  authority: Authority,
  now: number,
  extra: ReadonlyMap<string, string>,
): Map<string, string> {
  const server = apiServerUrl(layout)
  const client = (name: string, organization?: string): Issued =>
    issue(authority, { name, usages: ['client'], ...(organization === undefined ? {} : { organization }) }, now)
  const config = (user: string, issued: Issued): string =>
    kubeconfig(layout.name, user, server, authority.certificate, issued)
  const kubeletUser = `system:node:${node.name}`
  const serving = issue(
    authority,
    {
      name: kubeletUser,
      organization: 'system:nodes',
      usages: ['server'],
      alternatives: [node.name, ...node.addresses],
    },
    now,
  )
  const files = new Map<string, string>([
    ...extra,
    ['/etc/hostname', `${node.name}\n`],
    ['/etc/hosts', hosts(layout)],
    ['/etc/machine-id', `${crypto.randomUUID().replaceAll('-', '')}\n`],
    ['/etc/resolv.conf', resolvers(readFileSync('/etc/resolv.conf', 'utf8'), layout.family)],
    ['/etc/containerd/lab.toml', containerdConfig(extra.has(BASE_SPEC) ? BASE_SPEC : undefined)],
    ['/etc/kubernetes/pki/ca.crt', authority.certificate],
    ['/etc/kubernetes/pki/kubelet.crt', serving.certificate],
    ['/etc/kubernetes/pki/kubelet.key', serving.key],
    ['/etc/kubernetes/kubelet.conf', config(kubeletUser, client(kubeletUser, 'system:nodes'))],
    ['/etc/kubernetes/kube-proxy.conf', config('system:kube-proxy', client('system:kube-proxy'))],
    ['/etc/kubernetes/kube-proxy.yaml', kubeProxyConfig(layout, node.name)],
    ['/etc/kubernetes/manifests/.keep', ''],
    ['/var/lib/kubelet/config.yaml', kubeletConfig(layout)],
  ])
  if (!node.controlPlane) return files

  const put = (name: string, { certificate, key }: Issued): void => {
    files.set(`/etc/kubernetes/pki/${name}.crt`, certificate)
    files.set(`/etc/kubernetes/pki/${name}.key`, key)
  }
  const tokens = makeTokenKey()
  files.set('/etc/kubernetes/pki/ca.key', authority.key)
  files.set('/etc/kubernetes/pki/sa.key', tokens.privateKey)
  files.set('/etc/kubernetes/pki/sa.pub', tokens.publicKey)
  put('apiserver', issue(authority, apiServerRequest(layout, node), now))
  put('apiserver-kubelet-client', client('kube-apiserver-kubelet-client', 'system:masters'))
  for (const name of ['controller-manager', 'scheduler']) {
    const user = `system:kube-${name}`
    files.set(`/etc/kubernetes/${name}.conf`, config(user, client(user)))
  }
  return files
}

export function adminRequest(): Request {
  return { name: 'kubernetes-admin', organization: 'system:masters', usages: ['client'] }
}

function apiServerRequest(layout: LabLayout, node: LabNode): Request {
  return {
    name: 'kube-apiserver',
    usages: ['server'],
    alternatives: [
      node.name,
      'localhost',
      'kubernetes',
      'kubernetes.default',
      'kubernetes.default.svc',
      'kubernetes.default.svc.cluster.local',
      '127.0.0.1',
      '::1',
      ...node.addresses,
      ...layout.apiServiceAddresses,
    ],
  }
}

function hosts(layout: LabLayout): string {
  const nodes = layout.nodeList.flatMap(({ name, addresses }) => addresses.map((address) => `${address} ${name}`))
  return ['127.0.0.1 localhost', '::1 localhost ip6-localhost', ...nodes, ''].join('\n')
}

/** The machine's resolvers as nodes reach them: one on its loopback (systemd-resolved) is behind slirp4netns's 10.0.2.3. */
export function resolvers(text: string, family: IpFamily): string {
  const lines = text.split('\n').filter((line) => /^\s*(search|options)\s/.test(line))
  const servers = Array.from(text.matchAll(/^\s*nameserver\s+(\S+)/gm), ([, server = '']) => server)
  const usable = servers.filter(
    (server) => !/^(127\.|::1$|fe80:)/.test(server) && (family !== 'ipv6' || server.includes(':')),
  )
  const chosen =
    usable.length > 0 && usable.length === servers.length ? usable : [family === 'ipv6' ? 'fd00::3' : '10.0.2.3']
  return [...lines, ...chosen.map((server) => `nameserver ${server}`), ''].join('\n')
}
