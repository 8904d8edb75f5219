import assert from 'node:assert/strict'
import { test } from 'node:test'
import { announced, everyLevel, rotatedTo } from '#test/kit/announcements.ts'
import { FLOW_PODS, flowTable, listenForFlows, makeFlowPods } from '#test/kit/flow-table.ts'
import { type Family, type Place, places, sayAll, wrong } from '#test/kit/flows.ts'
import { createKey } from '#test/kit/ipsec.ts'
import { eventually, labFor } from '#test/kit/lab.ts'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'

// What is encrypted with IPsec: whatever comes from or goes to a pod of another node, its Services, other nodes' own
// addresses and internal IPs; with `nodeEncryption` also what nodes say to each other.
const BOTH: readonly Family[] = [4, 6]
const INSTALL = '--set ipv6.enabled=true --set encryption.enabled=true --set encryption.type=ipsec'

test('IPsec, two families: every flow arrives, and is encrypted as promised', { timeout: 600_000 }, async (t) => {
  if (!SLOW) return t.skip(SLOW_HINT)
  await using lab = await labFor(t, 'esphosts', ['--ip-family', 'dual'])
  if (lab === undefined) return
  await createKey(lab, 3)
  await lab.sh(`cilium install ${INSTALL} && cilium status --wait`, 300)
  await rotatedTo(lab, 3)
  await everyLevel(lab, 3)
  const nodes = await places(lab, [])
  const services = await makeFlowPods(lab, BOTH, nodes.worker2?.ips ?? {})
  const place = await places(lab, FLOW_PODS)
  await using _listening = await listenForFlows(lab, place)
  const table = (encryption: 'pods' | 'nodes') => [
    ...flowTable(place, services, BOTH, encryption, 'ipsec'),
    ...BOTH.map((family) => {
      const [from, to] = [place.worker as Place, place.worker2 as Place]
      const [own, host] = [from, to].map((node) => node.internalIps?.[family] as string)
      const ends = { to: { host: host as string, port: 7800 }, seenAs: own as string }
      return { kind: 'internal IP to internal IP', family, from, wire: 'absent' as const, ...ends }
    }),
  ]

  await t.test('by default', async (step) => {
    const seen = await sayAll(lab, table('pods'))
    step.diagnostic(`${seen.length} flows`)
    assert.deepEqual(wrong(seen), [])
  })

  await t.test('pods reach the API server, whose endpoint is a node, and kubelet reaches pods', async () => {
    for (const pod of ['a', 'c', 'd']) {
      const url = 'https://kubernetes.default.svc.cluster.local/readyz'
      assert.match(await lab.sh(`kubectl exec ${pod} -- curl -sk --max-time 10 ${url}`), /^(ok|\{)/)
      assert.equal((await lab.sh(`kubectl exec ${pod} -- hostname`)).trim(), pod)
    }
  })

  await t.test('with nodeEncryption', async (step) => {
    await lab.sh(`cilium upgrade ${INSTALL} --set encryption.nodeEncryption=true`, 300)
    await eventually('nodes encrypt what they say themselves', 120, async () =>
      (await announced(lab, 'node-encryption')).join() === 'off,on,on,on' ? true : undefined,
    )
    const seen = await sayAll(lab, table('nodes'))
    step.diagnostic(`${seen.length} flows`)
    assert.deepEqual(wrong(seen), [])
  })
})
