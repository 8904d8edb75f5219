import { stringify } from 'yaml'
import { apiServerUrl, type LabLayout } from '../layout.ts'
import { kubeProxyConfig } from '../node/config.ts'
import { COREDNS_VERSION, KUBERNETES_VERSION } from '../programs/pins.ts'

/** What kubeadm would have left in a new cluster, as far as tools look for it: cluster DNS and the files of the set-up. */
export interface LabObject {
  /** Path of the API collection that it is created in. */
  readonly collection: string
  readonly object: object
}

const SYSTEM = '/api/v1/namespaces/kube-system'
const RBAC = '/apis/rbac.authorization.k8s.io/v1'
const DNS_LABELS = { 'k8s-app': 'kube-dns' }

/** A Node with its pod CIDRs, so that they follow the order of the names; the kubelet fills in the rest. */
export function nodeObjects(layout: LabLayout): LabObject[] {
  return layout.nodeList.map(({ name, controlPlane, podCidrs }) => ({
    collection: '/api/v1/nodes',
    object: {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name, labels: controlPlane ? { 'node-role.kubernetes.io/control-plane': '' } : {} },
      spec: { podCIDR: podCidrs[0], podCIDRs: [...podCidrs] },
    },
  }))
}

export function setupObjects(layout: LabLayout): LabObject[] {
  const config = (name: string, data: Record<string, string>, namespace = 'kube-system'): LabObject => ({
    collection: `/api/v1/namespaces/${namespace}/configmaps`,
    object: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace }, data },
  })
  return [
    config('kubeadm-config', {
      ClusterConfiguration: stringify({
        apiVersion: 'kubeadm.k8s.io/v1beta4',
        kind: 'ClusterConfiguration',
        clusterName: layout.name,
        kubernetesVersion: `v${KUBERNETES_VERSION}`,
        controlPlaneEndpoint: apiServerUrl(layout).replace('https://', ''),
        networking: {
          dnsDomain: 'cluster.local',
          podSubnet: layout.podCidrs.join(),
          serviceSubnet: layout.serviceCidrs.join(),
        },
      }),
    }),
    config('kube-proxy', { 'config.conf': kubeProxyConfig(layout, '') }),
    ...dnsObjects(layout),
  ]
}

const COREFILE = `.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
`

function dnsObjects(layout: LabLayout): LabObject[] {
  const account = { name: 'coredns', namespace: 'kube-system' }
  const families = layout.dnsAddresses.map((address) => (address.includes(':') ? 'IPv6' : 'IPv4'))
  return [
    {
      collection: `${SYSTEM}/serviceaccounts`,
      object: { apiVersion: 'v1', kind: 'ServiceAccount', metadata: account },
    },
    {
      collection: `${RBAC}/clusterroles`,
      object: {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'ClusterRole',
        metadata: { name: 'system:coredns' },
        rules: [
          { apiGroups: [''], resources: ['endpoints', 'services', 'pods', 'namespaces'], verbs: ['list', 'watch'] },
          { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] },
        ],
      },
    },
    {
      collection: `${RBAC}/clusterrolebindings`,
      object: {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'ClusterRoleBinding',
        metadata: { name: 'system:coredns' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'system:coredns' },
        subjects: [{ kind: 'ServiceAccount', ...account }],
      },
    },
    {
      collection: `${SYSTEM}/configmaps`,
      object: { apiVersion: 'v1', kind: 'ConfigMap', metadata: account, data: { Corefile: COREFILE } },
    },
    {
      collection: `${SYSTEM}/services`,
      object: {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: {
          name: 'kube-dns',
          namespace: 'kube-system',
          labels: { ...DNS_LABELS, 'kubernetes.io/cluster-service': 'true', 'kubernetes.io/name': 'CoreDNS' },
        },
        spec: {
          clusterIP: layout.dnsAddresses[0],
          clusterIPs: [...layout.dnsAddresses],
          ipFamilies: families,
          ipFamilyPolicy: families.length > 1 ? 'RequireDualStack' : 'SingleStack',
          selector: DNS_LABELS,
          ports: [
            { name: 'dns', port: 53, protocol: 'UDP', targetPort: 53 },
            { name: 'dns-tcp', port: 53, protocol: 'TCP', targetPort: 53 },
            { name: 'metrics', port: 9153, protocol: 'TCP', targetPort: 9153 },
          ],
        },
      },
    },
    { collection: '/apis/apps/v1/namespaces/kube-system/deployments', object: dnsDeployment() },
  ]
}

function dnsDeployment(): object {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'coredns', namespace: 'kube-system', labels: DNS_LABELS },
    spec: {
      replicas: 2,
      selector: { matchLabels: DNS_LABELS },
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1 } },
      template: {
        metadata: { labels: DNS_LABELS },
        spec: {
          serviceAccountName: 'coredns',
          priorityClassName: 'system-cluster-critical',
          dnsPolicy: 'Default',
          tolerations: [
            { key: 'CriticalAddonsOnly', operator: 'Exists' },
            { key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' },
          ],
          affinity: {
            podAntiAffinity: {
              preferredDuringSchedulingIgnoredDuringExecution: [
                {
                  weight: 100,
                  podAffinityTerm: {
                    labelSelector: { matchLabels: DNS_LABELS },
                    topologyKey: 'kubernetes.io/hostname',
                  },
                },
              ],
            },
          },
          containers: [
            {
              name: 'coredns',
              image: `localhost/coredns:${COREDNS_VERSION}`,
              imagePullPolicy: 'IfNotPresent',
              args: ['-conf', '/etc/coredns/Corefile'],
              resources: { limits: { memory: '170Mi' }, requests: { cpu: '100m', memory: '70Mi' } },
              ports: [
                { name: 'dns', containerPort: 53, protocol: 'UDP' },
                { name: 'dns-tcp', containerPort: 53, protocol: 'TCP' },
                { name: 'metrics', containerPort: 9153, protocol: 'TCP' },
              ],
              livenessProbe: { httpGet: { path: '/health', port: 8080 }, initialDelaySeconds: 60, failureThreshold: 5 },
              readinessProbe: { httpGet: { path: '/ready', port: 8181 }, periodSeconds: 2 },
              securityContext: {
                allowPrivilegeEscalation: false,
                capabilities: { add: ['NET_BIND_SERVICE'], drop: ['ALL'] },
                readOnlyRootFilesystem: true,
              },
              volumeMounts: [{ name: 'config', mountPath: '/etc/coredns', readOnly: true }],
            },
          ],
          volumes: [{ name: 'config', configMap: { name: 'coredns' } }],
        },
      },
    },
  }
}
