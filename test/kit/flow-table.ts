import type { EncryptionType } from '#core/transition/mode.ts'
import { type Family, type Flow, listen, type Place } from '#test/kit/flows.ts'
import type { Lab } from '#test/kit/lab.ts'
import { runPods } from '#test/kit/traffic.ts'

/** What encryption the cluster has, as far as it decides what stands on the wire. */
export type Encryption = 'off' | 'pods' | 'nodes'

/** Where everything listens; of the Services too. */
const FLOW_PORT = 7800
/** Of Service `b`, on every node. */
const FLOW_NODE_PORT = 30780

/** Pods of the table: `a` and `near` on worker, `b` on worker2, `c` on the control plane, `d` on worker3. */
export const FLOW_PODS = ['a', 'near', 'b', 'c', 'd'] as const

/** Addresses of a Service, one per family. */
type ServiceIps = Readonly<Partial<Record<Family, string>>>

export type FlowServices = Readonly<Record<'b' | 'host', ServiceIps>>

/** Makes the pods, Service `b` for pod b (with a NodePort) and Service `host` for what listens on worker2 itself. */
export async function makeFlowPods(
  lab: Lab,
  families: readonly Family[],
  worker2: Place['ips'],
): Promise<FlowServices> {
  const node = (name: string) => `${lab.name}-${name}`
  await runPods(lab, {
    a: node('worker'),
    near: node('worker'),
    b: node('worker2'),
    c: node('control-plane'),
    d: node('worker3'),
  })
  const ports = [
    { name: 'tcp', port: FLOW_PORT, protocol: 'TCP', nodePort: FLOW_NODE_PORT },
    { name: 'udp', port: FLOW_PORT, protocol: 'UDP', nodePort: FLOW_NODE_PORT },
  ]
  const clusterIpPorts = ports.map(({ name, port, protocol }) => ({ name, port, protocol }))
  const ipFamilies = families.map((family) => `IPv${family}`)
  const ipFamilyPolicy = families.length === 2 ? 'RequireDualStack' : 'SingleStack'
  const service = (name: string, spec: object) => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name },
    spec: { ipFamilies, ipFamilyPolicy, ...spec },
  })
  const slices = families.map((family) => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `host-${family}`, labels: { 'kubernetes.io/service-name': 'host' } },
    addressType: `IPv${family}`,
    ports: clusterIpPorts,
    endpoints: [{ addresses: [worker2[family]] }],
  }))
  const items = [
    service('b', { type: 'NodePort', selector: { app: 'b' }, ports }),
    service('host', { ports: clusterIpPorts }),
    ...slices,
  ]
  await lab.sh(`kubectl apply -f - <<'EOF'\n${JSON.stringify({ apiVersion: 'v1', kind: 'List', items })}\nEOF`)
  return { b: await serviceIps(lab, 'b'), host: await serviceIps(lab, 'host') }
}

async function serviceIps(lab: Lab, name: string): Promise<ServiceIps> {
  const ips = (await lab.sh(`kubectl get service ${name} -o jsonpath='{.spec.clusterIPs[*]}'`)).trim().split(' ')
  return Object.fromEntries(ips.map((ip) => [ip.includes(':') ? 6 : 4, ip]))
}

/**
 * Every kind of traffic, and what must be seen of it (docs/adr/0004-steering.md): `pods` encrypts whatever goes to a pod of
 * another node; `nodes` also what goes to another node itself, unless one of both is opted out, as the control plane is.
 * IPsec encrypts in any case what a pod says to another node itself.
 */
export function flowTable(
  place: Readonly<Record<string, Place>>,
  services: FlowServices,
  families: readonly Family[],
  encryption: Encryption,
  by: EncryptionType = 'wireguard',
): readonly Flow[] {
  const of = (name: string) => place[name] as Place
  const [a, near, b, c, d] = FLOW_PODS.map(of) as [Place, Place, Place, Place, Place]
  const [worker, worker2, worker3, control] = ['worker', 'worker2', 'worker3', 'control-plane'].map(of) as [
    Place,
    Place,
    Place,
    Place,
  ]
  const ifPods = encryption === 'off' ? 'clear' : 'absent'
  const ifNodes = encryption === 'nodes' ? 'absent' : 'clear'
  const ifAsked = by === 'ipsec' ? ifPods : ifNodes
  return families.flatMap((family): Flow[] => {
    const ip = (from: Place) => from.ips[family] as string
    const internal = (node: Place) => node.internalIps?.[family] as string
    const flow = (
      kind: string,
      from: Place,
      host: string,
      wire: Flow['wire'],
      seenAs: string,
      port = FLOW_PORT,
    ): Flow => ({
      kind,
      family,
      from,
      to: { host, port },
      wire,
      seenAs,
    })
    /** What kube-proxy makes of what it sends to a pod of the same node. */
    const masqueraded = (node: Place) => (family === 4 ? ip(node) : internal(node))
    return [
      flow('pod to pod', a, ip(b), ifPods, ip(a)),
      flow('pod to pod, back', b, ip(a), ifPods, ip(b)),
      flow('pod to pod of the control plane', a, ip(c), ifPods, ip(a)),
      flow('pod of the control plane to pod', c, ip(a), ifPods, ip(c)),
      flow('pod of a third node to pod', d, ip(b), ifPods, ip(d)),
      flow('pod to pod of the same node', a, ip(near), 'absent', ip(a)),
      flow('pod to Service', a, services.b[family] as string, ifPods, ip(a)),
      flow('pod to its own Service', b, services.b[family] as string, 'absent', masqueraded(worker2)),
      flow('host to pod', worker, ip(b), ifPods, internal(worker)),
      flow('host of the control plane to pod', control, ip(b), ifPods, internal(control)),
      flow('host to Service', worker, services.b[family] as string, ifPods, internal(worker)),
      flow('host to its own pod', worker, ip(a), 'absent', ip(worker)),
      flow('pod to its own host', a, ip(worker), 'absent', ip(a)),
      flow('pod to host', a, ip(worker2), ifAsked, ip(worker)),
      flow('pod to Service of a host', a, services.host[family] as string, ifAsked, ip(worker)),
      flow('pod to host of the control plane', a, ip(control), by === 'ipsec' ? ifPods : 'clear', ip(worker)),
      flow('pod of the control plane to host', c, ip(worker), ifAsked, encryption === 'nodes' ? ip(c) : ip(control)),
      flow('host to host', worker, ip(worker2), ifNodes, ip(worker)),
      flow('host to Service of a host', worker, services.host[family] as string, ifNodes, ip(worker)),
      flow('host to host of the control plane', worker, ip(control), 'clear', ip(worker)),
      flow('host of the control plane to host', control, ip(worker), 'clear', ip(control)),
      flow('host to NodePort, on from there', worker, ip(worker3), ifNodes, internal(worker3), FLOW_NODE_PORT),
      flow('host to NodePort beside the pod', worker, ip(worker2), ifNodes, masqueraded(worker2), FLOW_NODE_PORT),
      flow('pod to NodePort, on from there', a, ip(worker3), ifAsked, internal(worker3), FLOW_NODE_PORT),
      flow('pod to NodePort of its host', a, ip(worker), ifPods, internal(worker), FLOW_NODE_PORT),
    ]
  })
}

/** Listens wherever the table's flows end; disposed of together. */
export async function listenForFlows(lab: Lab, place: Readonly<Record<string, Place>>): Promise<AsyncDisposable> {
  const names = [...FLOW_PODS, 'worker', 'worker2', 'worker3', 'control-plane']
  const all = await Promise.all(names.map((name) => listen(lab, place[name] as Place, FLOW_PORT)))
  return {
    async [Symbol.asyncDispose]() {
      await Promise.all(all.map((one) => one[Symbol.asyncDispose]()))
    },
  }
}
