import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Capture } from '#test/kit/capture.ts'
import { eventually, type Lab, labFor } from '#test/kit/lab.ts'
import { countFull } from '#test/kit/overruns.ts'
import { judgeLoss, lossOf } from '#test/kit/probe/loss.ts'
import { findPod, type Pod, Probe, startEcho } from '#test/kit/probe/pods.ts'
import { settle } from '#test/kit/processes.ts'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'
import { runPods, sendMarker } from '#test/kit/traffic.ts'

// Removal while pods talk: by the CLI nothing of ours is left, by a bare `helm uninstall` nodes stay closed; at no time
// goes anything out in clear, and pods that ran all the while work again after the next installation.
const NAME = 'sv'
const MARKER = 'MARKER-REMOVING!'
const NODES = ['control-plane', 'worker', 'worker2', 'worker3'].map((name) => `${NAME}-${name}`)
const INSTALL = 'cilium install --set encryption.enabled=true --set encryption.type=wireguard && cilium status --wait'

test('removal leaves nothing of ours and nothing open; running pods work after the next installation', {
  timeout: 1_200_000,
}, async (t) => {
  if (!SLOW) return t.skip(SLOW_HINT)
  await using lab = await labFor(t, NAME)
  if (lab === undefined) return
  const before = await Promise.all(NODES.map((node) => traces(lab, node)))
  await lab.sh(INSTALL, 300)
  await runPods(lab, { a: `${NAME}-worker`, b: `${NAME}-worker2` })
  const [a, b] = [await findPod(lab, 'a'), await findPod(lab, 'b')]
  await using echo = await startEcho(lab, b, 7777)
  await using wire = await Capture.start(lab, 'underlay')
  void echo

  for (const [what, remove] of [
    ['cilium uninstall', 'cilium uninstall'],
    ['helm uninstall', 'helm uninstall -n kube-system cilium --wait'],
  ] as const) {
    await t.test(`${what} while pods talk: they are cut off, not opened`, async () => {
      const probe = new Probe(lab, a, b, 7777, { text: MARKER })
      await probe.started
      await settle(1)
      await lab.sh(remove, 320)
      await settle()
      const { lost, sent } = await probe.stop()
      t.diagnostic(`${what}: ${lost} of ${sent} packets lost from the moment of removal`)
      assert.ok(lost > 0 && lost < sent, `${lost} of ${sent}`)
      const after = await new Probe(lab, a, b, 7777, { seconds: 1, text: MARKER }).result()
      assert.equal(after.lost, after.sent, 'a pod of a removed network reaches another node')
    })
    if (what === 'cilium uninstall') {
      await t.test('nothing of ours is left on the nodes', async () => {
        assert.deepEqual(await Promise.all(NODES.map((node) => traces(lab, node))), before)
      })
    }
    await t.test(`pods that ran work again after the next install (after ${what})`, async (t) => {
      await lab.sh(INSTALL, 300)
      await works(t, lab, a, b)
    })
  }

  await t.test('nothing of all that was on the wire in clear', async () => {
    assert.equal(await wire.count(MARKER), 0)
  })
})

async function works(t: TestContext, lab: Lab, a: Pod, b: Pod): Promise<void> {
  await eventually('the pods reach each other', 120, async () => {
    await lab.sh(`kubectl exec a -- curl -fsS --max-time 2 -o /dev/null http://${b.ip}/`)
    return true
  })
  await sendMarker(lab, 'a', a, b, MARKER)
  const full = await countFull(lab, [a, b])
  const result = await new Probe(lab, a, b, 7777, { seconds: 1, text: MARKER }).result()
  judgeLoss(t, 'after the installation', lossOf(result, await full()))
}

/** All that an installation adds to a node, sorted by kind. Pods' own devices and files of kubelet are not ours to remove. */
async function traces(lab: Lab, node: string): Promise<Record<string, string>> {
  const ask = {
    devices: `ip -o link | grep -oE ' cilium[^:@]*' || true`,
    rules: 'ip rule; ip -6 rule',
    routes: `ip route show table all | grep -E 'cilium|blackhole|table 20' || true; ip -6 route show table all | grep -E 'cilium|blackhole|table 20' || true`,
    tables: `nft list tables | grep -vE 'kube-proxy' || true`,
    // what stays is for the DELs of pods that run: the executable and the list of their addresses
    files: `find /run/pellicle /var/run/wireguard /var/run/cilium /var/lib/cilium /etc/cni/net.d /opt/cni/bin -type f 2>/dev/null | grep -vxE '/opt/cni/bin/cilium-cni|/var/lib/cilium/endpoints.json' | sort || true`,
    processes: `pgrep -fa '[p]ellicle-engine|/opt/pellicle/[k]eeper|cilium-[a]gent' || true`,
  }
  const entries = Object.entries(ask).map(async ([what, script]) => [what, await lab.node(node, script)] as const)
  return Object.fromEntries(await Promise.all(entries))
}
