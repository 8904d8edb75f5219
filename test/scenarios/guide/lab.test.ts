import { test } from 'node:test'
import { labFor } from '#test/kit/lab.ts'
import { ipsecHalf } from './ipsec-half.ts'
import { wireguardHalf } from './wireguard-half.ts'

test('the lab guide runs word for word', { timeout: 1_400_000 }, async (t) => {
  await using lab = await labFor(t, 'kind')
  if (lab === undefined) return
  await t.test('IPsec', async (half) => await ipsecHalf(half, lab))
  await t.test('the app and the network are taken away', async () => {
    await lab.sh('kubectl delete -f endor.yaml --wait=true', 300)
    await lab.sh('cilium uninstall --wait', 360)
  })
  await t.test('WireGuard', async (half) => await wireguardHalf(half, lab))
})
