import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseConfig } from '#core/api/config.ts'
import { plan } from '#core/plan/plan.ts'
import { snapshotOf } from '#test/kit/snapshots.ts'
import { toPlanConfig } from './plan-config.ts'

test('cluster CIDRs that lie in each other are one prefix to nftables', () => {
  const text = '10.244.0.0/16,10.0.0.0/8,10.0.0.0/8,fd00:10:244::/48,fd00::/8'
  const parsed = parseConfig({ 'pellicle-cluster-cidrs': text })
  assert.ok(parsed.ok)
  const config = toPlanConfig(parsed.value.config)
  assert.deepEqual(config.clusterCidrs, ['10.0.0.0/8', 'fd00::/8'])
  const p = plan(snapshotOf(1, 3, [], { config }))
  assert.ok(p.usable)
  assert.match(p.host.tables[0]?.body ?? '', /ip saddr 10\.0\.0\.0\/8 counter name entered_in_clear drop/)
  assert.doesNotMatch(p.host.tables[0]?.body ?? '', /10\.244\.0\.0\/16/)
})
