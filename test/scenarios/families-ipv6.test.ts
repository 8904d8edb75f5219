import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FLOW_PODS, flowTable, listenForFlows, makeFlowPods } from '#test/kit/flow-table.ts'
import { type Place, places, sayAll, wrong } from '#test/kit/flows.ts'
import { labFor } from '#test/kit/lab.ts'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'

test('IPv6 alone: pods, hosts and Services talk, encrypted from the start', { timeout: 1_200_000 }, async (t) => {
  if (!SLOW) return t.skip(SLOW_HINT)
  await using lab = await labFor(t, 'families6', ['--ip-family', 'ipv6'])
  if (lab === undefined) return
  const flags = '--set ipv4.enabled=false --set ipv6.enabled=true --set encryption.enabled=true'
  await lab.sh(`cilium install ${flags} --set encryption.type=wireguard && cilium status --wait`, 300)
  const nodes = await places(lab, [])
  const services = await makeFlowPods(lab, [6], nodes.worker2?.ips ?? {})
  const place = await places(lab, FLOW_PODS)
  const b = place.b as Place
  await using _listening = await listenForFlows(lab, place)

  await t.test('every flow arrives, and what belongs to pods is not on the wire', async (step) => {
    const seen = await sayAll(lab, flowTable(place, services, [6], 'pods'))
    step.diagnostic(`${seen.length} flows`)
    assert.deepEqual(wrong(seen), [])
  })

  await t.test('names are known on every node', async () => {
    for (const pod of FLOW_PODS) {
      const said = await lab.sh(`kubectl exec ${pod} -- getent ahosts b.default.svc.cluster.local`)
      assert.ok(said.includes(services.b[6] as string), `${pod}: ${said}`)
    }
  })

  await t.test('full packets fit into the underlay', async () => {
    const ping = (size: number) => lab.sh(`kubectl exec a -- ping -c 1 -w 30 -M do -s ${size} ${b.ips[6]} || true`)
    // 1500 - IPv6 40 - UDP 8 - WireGuard 32 = 1420 for the pod's packet, of which 48 are IPv6's and ICMPv6's headers
    assert.match(await ping(1420 - 48), / 1 received/)
    assert.match(await ping(1420 - 47), / 0 received/)
    const got = await lab.sh(
      `kubectl exec a -- curl -fsS --max-time 100 -o /dev/null -w '%{size_download}' 'http://[${b.ips[6]}]/bytes/5000000'`,
    )
    assert.equal(got, '5000000')
  })
})
