import type { Lab } from '#test/kit/lab.ts'
import { type Pod, Probe } from '#test/kit/probe/pods.ts'

/** Makes a pod for tests on a node, with the examples' web server on port 80; waits until it is ready. */
export async function runPods(lab: Lab, pods: Readonly<Record<string, string>>): Promise<void> {
  const manifests = Object.entries(pods).map(([name, node]) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: name } },
    spec: {
      nodeName: node,
      terminationGracePeriodSeconds: 0,
      containers: [{ name: 'main', image: EXAMPLES_IMAGE, imagePullPolicy: 'Never', command: ['web'] }],
    },
  }))
  const list = { apiVersion: 'v1', kind: 'List', items: manifests }
  await lab.sh(`kubectl apply -f - <<'EOF'\n${JSON.stringify(list)}\nEOF`)
  await lab.sh(
    `kubectl wait --for=condition=Ready --timeout=240s ${Object.keys(pods)
      .map((name) => `pod/${name}`)
      .join(' ')}`,
    270,
  )
}

/** A ClusterIP Service `name` for the pod of that name. */
export async function exposePod(lab: Lab, name: string): Promise<string> {
  await lab.sh(`kubectl expose pod ${name} --port 80`)
  return (await lab.sh(`kubectl get service ${name} -o jsonpath='{.spec.clusterIP}'`)).trim()
}

/** Sends the marker by ping, by HTTP (to the pod and to `alsoHttp`, e.g. a Service), and by UDP; all must get through. */
export async function sendMarker(
  lab: Lab,
  from: string,
  fromPod: Pod,
  to: Pod,
  marker: string,
  alsoHttp: readonly string[] = [],
): Promise<void> {
  // a ping pattern has up to 16 bytes
  const pattern = Buffer.from(marker.slice(0, 16)).toString('hex')
  // goes on until three are answered
  await lab.sh(`kubectl exec ${from} -- ping -c 3 -i 0.2 -w 60 -p ${pattern} ${to.ip}`)
  for (const host of [to.ip, ...alsoHttp]) {
    const url = host.includes(':') ? `http://[${host}]/` : `http://${host}/`
    // kube-proxy of that node may know a new Service a moment later
    const again = host === to.ip ? '' : '--retry 20 --retry-delay 1 --retry-all-errors'
    const curl = `curl -fsS --max-time 20 ${again} -o /dev/null -H 'X-Marker: ${marker}' ${url}`
    await lab.sh(`kubectl exec ${from} -- ${curl}`, 500)
  }
  const udp = await new Probe(lab, fromPod, to, 7, { seconds: 0.2, rate: 100, text: marker }).result()
  if (udp.sent === 0) throw new Error('no UDP was sent')
}

const EXAMPLES_IMAGE = 'localhost/pellicle-examples:0.1.0'
