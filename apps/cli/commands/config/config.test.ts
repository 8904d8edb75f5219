import assert from 'node:assert/strict'
import { test } from 'node:test'
import { judgeChange } from './config.ts'

const BEFORE = { ipam: 'cluster-pool', 'cluster-pool-ipv4-cidr': '10.0.0.0/16' }

test('config set keeps what nodes were given: a prefix may be added to the pool', () => {
  const set = (key: string, value: string) => () => judgeChange(BEFORE, { ...BEFORE, [key]: value }, key)
  assert.doesNotThrow(set('cluster-pool-ipv4-cidr', '10.0.0.0/16 10.9.0.0/16'))
  assert.doesNotThrow(set('mtu', '1400'))
  assert.throws(set('cluster-pool-ipv4-cidr', '10.9.0.0/16'), /has no 10\.0\.0\.0\/16 any more/)
  assert.throws(set('cluster-pool-ipv4-mask-size', '25'), /cannot change from 24 to 25/)
  const kubernetes = { ...BEFORE, ipam: 'kubernetes', 'pellicle-cluster-cidrs': '10.0.0.0/16' }
  assert.throws(() => judgeChange(BEFORE, kubernetes, 'ipam'), /cannot change from cluster-pool to kubernetes/)
  assert.doesNotThrow(() => judgeChange({}, kubernetes, undefined), 'what was wrong before may be repaired')
})
