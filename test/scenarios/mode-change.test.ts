import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { EncryptionType } from '#core/transition/mode.ts'
import { Capture } from '#test/kit/capture.ts'
import { createKey } from '#test/kit/ipsec.ts'
import { eventually, type Lab, labFor } from '#test/kit/lab.ts'
import { overruns } from '#test/kit/overruns.ts'
import { findPod, Probe, startEcho } from '#test/kit/probe/pods.ts'
import { settle } from '#test/kit/processes.ts'
import { runPods, sendMarker } from '#test/kit/traffic.ts'

// A cluster with WireGuard is told IPsec, and then WireGuard again, while two pods on two nodes speak 1,000 times a second, each
// to the other, and are answered. Helm starts every agent anew for it. Nothing is lost, and nothing is in clear.
const NAME = 'mode'
const MARKER = 'MARKER-MODECHANG'

test('WireGuard becomes IPsec and IPsec WireGuard on a running cluster, and nothing is lost or in clear', {
  timeout: 900_000,
}, async (t) => {
  await using lab = await labFor(t, NAME)
  if (lab === undefined) return
  for (const [name, flags] of [
    ['ESP in UDP', ''],
    ['ESP inside VXLAN', '--version 1.14.5'],
  ] as const) {
    await t.test(name, async (t) => {
      await createKey(lab, 3)
      await lab.sh(
        `cilium install ${flags} --set encryption.enabled=true --set encryption.type=wireguard && cilium status --wait`,
        300,
      )
      try {
        await changeUnderTraffic(t, lab)
      } finally {
        await lab.sh('kubectl delete pods --all --wait && cilium uninstall --wait', 240)
        await lab.sh('kubectl -n kube-system delete secret cilium-ipsec-keys')
      }
    })
  }
})

async function changeUnderTraffic(t: TestContext, lab: Lab): Promise<void> {
  const names = ['worker', 'worker2'] as const
  await runPods(lab, Object.fromEntries(names.map((name) => [name, `${NAME}-${name}`])))
  const [a, b] = [await findPod(lab, names[0]), await findPod(lab, names[1])]
  const pods = [a, b]
  await using echoes = new AsyncDisposableStack()
  for (const pod of pods) echoes.use(await startEcho(lab, pod, 7777))
  await using wire = await Capture.start(lab, 'underlay')
  await sendMarker(lab, names[0], a, b, MARKER)
  for (const [to, gone] of [
    ['ipsec', 'cilium_wg0'],
    ['wireguard', 'pellicle_ipsec'],
  ] as const) {
    const fullBefore = await overruns(lab, pods)
    const probes = [new Probe(lab, a, b, 7777, { text: MARKER }), new Probe(lab, b, a, 7777, { text: MARKER })]
    await settle(1)
    const began = performance.now()
    await lab.sh(`cilium upgrade --set encryption.type=${to}`, 300)
    await everyNodeBy(lab, to, gone)
    const seconds = (performance.now() - began) / 1000
    await settle(1)
    const results = await Promise.all(probes.map((probe) => probe.stop()))
    const sent = results.reduce((sum, result) => sum + result.sent, 0)
    const lost = results.reduce((sum, result) => sum + result.lost, 0)
    const full = (await overruns(lab, pods)) - fullBefore
    t.diagnostic(`to ${to}: ${lost} of ${sent} packets lost (full queues dropped ${full}) in ${seconds.toFixed(1)} s`)
    assert.ok(sent > 2000 && lost <= Math.max(0, full), `${lost} lost`)
    assert.equal(await wire.count(MARKER), 0)
    const status = await lab.sh('cilium status --wait && cilium encryption status', 120)
    assert.match(status, to === 'ipsec' ? /IPsec/ : /Wireguard/)
  }
}

/** Every node says that it has that one alone, and does. */
async function everyNodeBy(lab: Lab, type: EncryptionType, gone: string): Promise<void> {
  const only = type === 'ipsec' ? /^3\.\d+$/ : /^0\.\d+$/
  await eventually(`all nodes encrypt by ${type} alone`, 120, async () => {
    const said = await lab.sh(
      `kubectl get ciliumnodes -o jsonpath='{range .items[*]}{.metadata.annotations.pellicle\\.io/encryption-mode}{"\\n"}{end}'`,
    )
    const all = said.trim().split('\n')
    return all.length === 4 && all.every((text) => only.test(text)) ? true : undefined
  })
  for (const node of ['control-plane', 'worker', 'worker2', 'worker3']) {
    await eventually(`${gone} has gone from ${node}`, 30, async () => {
      const links = await lab.node(`${NAME}-${node}`, 'ip -o link')
      return links.includes(gone) ? undefined : true
    })
  }
}
