import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { EncryptionType } from '#core/transition/mode.ts'
import { announced, everyNodeSays } from '#test/kit/announcements.ts'
import { Capture } from '#test/kit/capture.ts'
import { createKey } from '#test/kit/ipsec.ts'
import { eventually, type Lab, labFor } from '#test/kit/lab.ts'
import { judgeLoss, lossWhile } from '#test/kit/probe/loss.ts'
import { findPod, type Pod } from '#test/kit/probe/pods.ts'
import { killAndWait, settle } from '#test/kit/processes.ts'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'
import { runPods, sendMarker } from '#test/kit/traffic.ts'

// A cluster with WireGuard is told IPsec, and then WireGuard again, while two pods on two nodes speak 1,000 times a second, each
// to the other, and are answered. Helm starts every agent anew for it. Nothing is lost, and nothing is in clear.
const NAME = 'mode'
const NODES = ['control-plane', 'worker', 'worker2', 'worker3'].map((node) => `${NAME}-${node}`)
const MARKER = 'MARKER-MODECHANG'

test('WireGuard becomes IPsec and IPsec WireGuard on a running cluster, and nothing is lost or in clear', {
  timeout: 900_000,
}, async (t) => {
  if (!SLOW) return t.skip(SLOW_HINT)
  await using lab = await labFor(t, NAME)
  if (lab === undefined) return
  for (const [name, flags] of [
    ['ESP in UDP', '--set encryption.nodeEncryption=true'],
    ['ESP inside VXLAN', '--version 1.14.5'],
  ] as const) {
    await t.test(name, async (t) => {
      await createKey(lab, 3)
      await lab.sh(
        `cilium install ${flags} --set encryption.enabled=true --set encryption.type=wireguard && cilium status --wait`,
        300,
      )
      try {
        await runPods(lab, { a: `${NAME}-worker`, b: `${NAME}-worker2` })
        const pods = [await findPod(lab, 'a'), await findPod(lab, 'b')] as const
        await changeUnderTraffic(t, lab, pods)
        if (name === 'ESP in UDP') await changeInSpiteOfTrouble(t, lab, pods)
      } finally {
        await lab.sh('kubectl delete pods --all --wait && cilium uninstall --wait', 480)
        await lab.sh('kubectl -n kube-system delete secret cilium-ipsec-keys')
      }
    })
  }
})

async function changeUnderTraffic(t: TestContext, lab: Lab, pods: readonly [Pod, Pod]): Promise<void> {
  for (const to of ['ipsec', 'wireguard'] as const) {
    await losesNothing(t, lab, pods, `to ${to}`, async () => {
      await lab.sh(`cilium upgrade --set encryption.type=${to}`, 300)
      await everyNodeBy(lab, to)
    })
    const status = await lab.sh('cilium status --wait && cilium encryption status', 320)
    assert.match(status, to === 'ipsec' ? /IPsec on all 4 nodes/ : /Wireguard on all 4 nodes/)
  }
}

/** Where ESP does not get through WireGuard goes on, an agent that dies changes nothing, and then all is as asked for. */
async function changeInSpiteOfTrouble(t: TestContext, lab: Lab, pods: readonly [Pod, Pod]): Promise<void> {
  const [{ node }] = pods
  await losesNothing(t, lab, pods, 'to ipsec, which is blocked for a time', async () => {
    await lab.node(
      node,
      `nft 'table inet blocked { chain in { type filter hook prerouting priority -400; udp dport 4500 drop; }; }'`,
    )
    await lab.sh('cilium upgrade --set encryption.type=ipsec', 300)
    await everyNodeSays(lab, 'encryption-mode', /^1\./)
    await killAndWait(lab, pods[1].node, 'agent')
    await settle(3)
    assert.ok(
      (await announced(lab, 'encryption-mode')).every((text) => text.startsWith('1.')),
      'nobody goes on',
    )
    await eventually('status tells how far it is', 120, async () => {
      const stdout = await lab.sh('cilium status || true')
      return /Changing to IPsec: 0 of 4 nodes done \(.*Wireguard, receiving both/.test(stdout) || undefined
    })
    const agent = await lab.sh(
      `kubectl -n kube-system get pod -l k8s-app=cilium --field-selector spec.nodeName=${pods[1].node} -o name`,
    )
    const ask = `kubectl -n kube-system exec ${agent.trim()} -c cilium-agent -- cilium-dbg encrypt status`
    await eventually('the agent tells whom it waits for', 120, async () => {
      const own = await lab.sh(ask)
      t.diagnostic(own.trim().replaceAll('\n', '; '))
      return own.includes(`waiting for ${node}: not everything has come there by it`) || undefined
    })
    await lab.node(node, 'nft delete table inet blocked')
    await everyNodeBy(lab, 'ipsec')
  })
}

async function losesNothing(
  t: TestContext,
  lab: Lab,
  pods: readonly [Pod, Pod],
  what: string,
  event: () => Promise<void>,
): Promise<void> {
  const [a, b] = pods
  await using wire = await Capture.start(lab, 'underlay')
  await sendMarker(lab, 'a', a, b, MARKER)
  const timed = async () => {
    const began = performance.now()
    await event()
    return (performance.now() - began) / 1000
  }
  const loss = await lossWhile(lab, pods, timed, { text: MARKER, both: true })
  judgeLoss(t, `${what}, in ${loss.result.toFixed(1)} s`, loss)
  assert.equal(await wire.count(MARKER), 0)
}

/** Every node says that it has that one alone, and does. */
async function everyNodeBy(lab: Lab, type: EncryptionType): Promise<void> {
  const [only, gone] = type === 'ipsec' ? [/^3\.\d+$/, 'cilium_wg0'] : [/^0\.\d+$/, 'pellicle_ipsec']
  await everyNodeSays(lab, 'encryption-mode', only)
  for (const node of NODES) {
    await eventually(`${gone} has gone from ${node}`, 120, async () => {
      return !(await lab.node(node, 'ip -o link')).includes(gone) || undefined
    })
  }
}
