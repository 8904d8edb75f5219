import assert from 'node:assert/strict'
import { test } from 'node:test'
import { requireIp } from '#core/ip/address.ts'
import { type Cidr, containsIp, requireCidr } from '#core/ip/cidr.ts'
import { everyLevel } from '#test/kit/announcements.ts'
import { Capture } from '#test/kit/capture.ts'
import { eventually, type Lab, labFor } from '#test/kit/lab.ts'
import { findPod } from '#test/kit/probe/pods.ts'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'
import { runPods, sendMarker } from '#test/kit/traffic.ts'

// IPAM mode cluster-pool: the operator gives the pod CIDRs, whatever Kubernetes has given its Nodes (10.244.N.0/24 here).
const NAME = 'ipam'
const POOL = 'ipam.operator.clusterPoolIPv4PodCIDRList'
const MARKER = 'MARKER-IPAMPOOL0'

test('cluster-pool: pods live in what the operator gives, which lasts, ends and is extended', {
  timeout: 1_200_000,
}, async (t) => {
  if (!SLOW) return t.skip(SLOW_HINT)
  await using lab = await labFor(t, NAME)
  if (lab === undefined) return
  const encrypted = '--set encryption.enabled=true --set encryption.type=wireguard'
  // room for four nodes
  const pool = `--set ipam.mode=cluster-pool --set '${POOL}={10.123.0.0/22}'`
  await lab.sh(`cilium install ${pool} ${encrypted} && cilium status --wait`, 300)
  await everyLevel(lab, 3)
  const given = await podCidrs(lab)

  await t.test('each node has one, and its pods addresses of it, encrypted', async (step) => {
    step.diagnostic(JSON.stringify(given))
    assert.deepEqual(
      new Set(Object.values(given)),
      new Set(['10.123.0.0/24', '10.123.1.0/24', '10.123.2.0/24', '10.123.3.0/24']),
    )
    await runPods(lab, { a: `${NAME}-worker`, b: `${NAME}-worker2` })
    const [a, b] = [await findPod(lab, 'a'), await findPod(lab, 'b')]
    for (const pod of [a, b]) assert.ok(containsIp(given[pod.node] as Cidr, requireIp(pod.ip, pod.node)), pod.ip)
    await using wire = await Capture.start(lab, 'underlay')
    await sendMarker(lab, 'a', a, b, MARKER)
    assert.match(await lab.sh(`kubectl exec a -- ping -c 3 -i 0.2 -w 60 ${b.ip}`), / 3 received/)
    assert.equal(await wire.count(MARKER), 0)
    assert.match(await lab.sh('kubectl exec a -- getent ahosts kubernetes.default.svc.cluster.local'), /^10\./)
    const status = await agentStatus(lab, a.node)
    step.diagnostic(/IPAM:.*/.exec(status)?.[0] ?? '')
    assert.match(status, new RegExp(`IPAM: +IPv4: \\d+/254 allocated from ${given[a.node]}`))
    // what no node has leaves by no other way
    assert.match(await lab.node(a.node, 'ip route show type blackhole'), /10\.123\.0\.0\/22/)
  })

  await t.test('operator and agents that start again change nothing', async () => {
    await lab.sh(
      'kubectl -n kube-system rollout restart deploy/cilium-operator ds/cilium && cilium status --wait --wait-duration 3m',
      240,
    )
    assert.deepEqual(await podCidrs(lab), given)
    const b = await findPod(lab, 'b')
    assert.match(await lab.sh(`kubectl exec a -- ping -c 2 -i 0.2 -w 60 ${b.ip}`), / 2 received/)
  })

  await t.test('what nodes hold cannot be changed away, by no way', async () => {
    for (const [script, message] of [
      [`cilium upgrade --set '${POOL}={10.99.0.0/16}'`, /has no 10\.123\.0\.0\/22 any more/],
      ['cilium upgrade --set ipam.operator.clusterPoolIPv4MaskSize=25', /cannot change from 24 to 25/],
      ['cilium upgrade --set ipam.mode=kubernetes', /cannot change from cluster-pool to kubernetes/],
      ['cilium config set cluster-pool-ipv4-cidr 10.99.0.0/16', /has no 10\.123\.0\.0\/22 any more/],
    ] as const) {
      await assert.rejects(lab.sh(script), message, script)
    }
  })

  await t.test('a fifth node finds the pool used up, and says so; a prefix more helps', async () => {
    const ghost = `apiVersion: v1\nkind: Node\nmetadata: {name: ghost}\n---\napiVersion: cilium.io/v2\nkind: CiliumNode\nmetadata: {name: ghost}\nspec: {}\n`
    await lab.sh(`kubectl apply -f - <<'EOT'\n${ghost}EOT`)
    const error = await eventually('the operator says why', 60, async () => {
      const path = '{.status.ipam.operator-status.error}'
      return (await lab.sh(`kubectl get ciliumnode ghost -o jsonpath='${path}'`)).trim() || undefined
    })
    assert.match(
      error,
      /the pool 10\.123\.0\.0\/22 \(cluster-pool-ipv4-cidr\) is used up: it has no \/24 left for node ghost/,
    )
    assert.match(await lab.sh('cilium status 2>&1 || true'), /is used up: it has no \/24 left for node ghost/)
    await lab.sh(`cilium upgrade --set '${POOL}={10.123.0.0/22,10.125.0.0/16}'`, 240)
    await eventually('it has one of the prefix that was added', 180, async () => {
      return (await podCidrs(lab))['ghost'] === '10.125.0.0/24' ? true : undefined
    })
    assert.equal(await guarded(lab), 4, 'not before all keep it from leaving in clear')
    await lab.sh('kubectl delete node ghost')
    await eventually('what it had is given back', 120, async () => {
      return (await podCidrs(lab))['ghost'] === undefined ? true : undefined
    })
    await lab.sh('cilium status --wait --wait-duration 3m', 240)
    assert.deepEqual(await podCidrs(lab), given)
    const route = await lab.node(`${NAME}-worker`, 'ip route show type blackhole')
    assert.match(route, /10\.125\.0\.0\/16/, 'agents know it')
  })
})

async function podCidrs(lab: Lab): Promise<Readonly<Record<string, Cidr>>> {
  const path = '{range .items[*]}{.metadata.name}{" "}{.spec.ipam.podCIDRs[0]}{"\\n"}{end}'
  const lines = (await lab.sh(`kubectl get ciliumnodes -o jsonpath='${path}'`)).trim().split('\n')
  return Object.fromEntries(
    lines.flatMap((line) => {
      const [name = '', text = ''] = line.split(' ')
      return text === '' ? [] : [[name, requireCidr(text, name)]]
    }),
  )
}

/** How many nodes guard the prefix that was added. */
async function guarded(lab: Lab): Promise<number> {
  const path = '{range .items[*]}{.metadata.annotations.pellicle\\.io/guarded-cidrs}{"\\n"}{end}'
  const lines = (await lab.sh(`kubectl get ciliumnodes -o jsonpath='${path}'`)).split('\n')
  return lines.filter((line) => line.split(' ').includes('10.125.0.0/16')).length
}

async function agentStatus(lab: Lab, node: string): Promise<string> {
  const pods = `-l k8s-app=cilium --field-selector spec.nodeName=${node} -o name`
  return await lab.sh(
    `kubectl -n kube-system exec $(kubectl -n kube-system get pod ${pods}) -c cilium-agent -- cilium-dbg status`,
  )
}
