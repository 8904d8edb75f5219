import { test } from 'node:test'
import { FLOW_PODS, makeFlowPods } from '#test/kit/flow-table.ts'
import { places } from '#test/kit/flows.ts'
import { labFor } from '#test/kit/lab.ts'
import { BOTH } from './cluster.ts'
import { flowsComeThrough } from './flows.ts'
import { hostsAreEncrypted } from './hosts.ts'

test('both families at once', { timeout: 1_500_000 }, async (t) => {
  await using lab = await labFor(t, 'dual', ['--ip-family', 'dual'])
  if (lab === undefined) return
  await lab.sh('cilium install --set ipv6.enabled=true --set encryption.enabled=false && cilium status --wait', 300)
  const nodes = await places(lab, [])
  const services = await makeFlowPods(lab, BOTH, nodes['worker2']?.ips ?? {})
  const cluster = { lab, nodes, place: await places(lab, FLOW_PODS), services }
  await t.test('everything that talks goes on talking when encryption comes', async (half) => {
    await flowsComeThrough(half, cluster)
  })
  await t.test('hosts are encrypted when asked for, and nobody is locked out', async (half) => {
    await hostsAreEncrypted(half, cluster)
  })
})
