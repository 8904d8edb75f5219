import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Capture } from '#test/kit/capture.ts'
import { eventually, type Lab, labFor } from '#test/kit/lab.ts'
import { describeLoss, lossWhile } from '#test/kit/probe/loss.ts'
import { findPod, type Pod } from '#test/kit/probe/pods.ts'
import { killAndWait, type Program } from '#test/kit/processes.ts'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'
import { runPods, sendMarker } from '#test/kit/traffic.ts'

// Kubernetes' own programs are killed, and nodes lose their power. Pods talk on while our programs wait for the others. What
// is lost is printed and not judged: a control plane that starts again takes all processors of a small machine, and a
// probe on a strict schedule loses what nobody had time to move. wireguard.test.ts judges the loss by our own programs.
const NAME = 'sv'
const MARKER = 'MARKER-SURVIVES!'
const [CONTROL_PLANE, WORKER, WORKER2, WORKER3] = ['control-plane', 'worker', 'worker2', 'worker3'].map(
  (name) => `${NAME}-${name}`,
) as [string, string, string, string]

test('what Kubernetes loses comes back; packets go on, and none in clear', { timeout: 1_200_000 }, async (t) => {
  if (!SLOW) return t.skip(SLOW_HINT)
  await using lab = await labFor(t, NAME)
  if (lab === undefined) return
  await lab.sh(
    'cilium install --set encryption.enabled=true --set encryption.type=wireguard && cilium status --wait',
    300,
  )
  await runPods(lab, { a: WORKER, b: WORKER2, c: WORKER3 })
  const [a, b] = [await findPod(lab, 'a'), await findPod(lab, 'b')]
  await using wire = await Capture.start(lab, 'underlay')

  const during = async (what: string, event: () => Promise<number>): Promise<void> => {
    const loss = await lossWhile(lab, [a, b], event, { text: MARKER })
    t.diagnostic(`${what}: ${describeLoss(loss)}, back after ${loss.result.toFixed(1)} s`)
  }

  for (const [program, node] of [
    ['containerd', WORKER],
    ['kubelet', WORKER],
    ['kube-apiserver', CONTROL_PLANE],
    ['etcd', CONTROL_PLANE],
  ] as const satisfies readonly (readonly [Program, string])[]) {
    await t.test(`kill -9 of ${program} is made good, and new pods can be started afterwards`, async () => {
      await during(`kill -9 of ${program}`, async () => {
        const started = performance.now()
        await killAndWait(lab, node, program)
        await apiAnswers(lab)
        await startsPods(lab, `after-${program}`, a)
        return (performance.now() - started) / 1000
      })
    })
  }

  await t.test('a node without power: the others go on, and its pods are back when it is', async () => {
    const c = await findPod(lab, 'c')
    await lab.sh(`kubectl exec a -- curl -fsS --max-time 30 -o /dev/null http://${c.ip}/`)
    await during(`power of ${WORKER3} off and on`, async () => {
      await lab.sh(`pellicle lab node kill --name ${NAME} ${WORKER3}`)
      await lab.sh(`! kubectl exec a -- curl -fsS --max-time 2 -o /dev/null http://${c.ip}/`)
      const started = performance.now()
      await lab.sh(`pellicle lab node start --name ${NAME} ${WORKER3}`)
      await eventually('the pod on it answers', 240, async () => {
        const ip = await lab.sh(`kubectl get pod c -o jsonpath='{.status.podIP}'`)
        await lab.sh(
          `kubectl exec a -- curl -fsS --max-time 2 -o /dev/null -H 'X-Marker: ${MARKER}' http://${ip.trim()}/`,
        )
        return true
      })
      return (performance.now() - started) / 1000
    })
    await lab.sh('cilium status --wait', 320)
  })

  await t.test('nothing of all that was on the wire in clear', async () => {
    await sendMarker(lab, 'a', a, b, MARKER)
    assert.equal(await wire.count(MARKER), 0)
  })
})

async function apiAnswers(lab: Lab): Promise<void> {
  await eventually('the API server answers', 120, async () => {
    await lab.sh('kubectl get --raw /readyz --request-timeout 10s')
    return true
  })
}

/** A new pod on the node of `a` and one elsewhere get addresses and reach each other. */
async function startsPods(lab: Lab, name: string, a: Pod): Promise<void> {
  await eventually('pods can be made', 60, async () => {
    await runPods(lab, { [`${name}-1`]: a.node, [`${name}-2`]: WORKER3 })
    return true
  })
  const to = await findPod(lab, `${name}-2`)
  await lab.sh(
    `kubectl exec ${name}-1 -- curl -fsS --max-time 30 -o /dev/null -H 'X-Marker: ${MARKER}' http://${to.ip}/`,
  )
}
