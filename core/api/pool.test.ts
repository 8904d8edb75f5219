import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseConfig } from './config.ts'
import { poolChangeFaults } from './pool.ts'

function choice(data: Record<string, string>) {
  const parsed = parseConfig({ 'pellicle-cluster-cidrs': '172.30.0.0/16', ...data })
  assert(parsed.ok, JSON.stringify(parsed))
  return parsed.value.config
}

const pool = (text: string, mask = '24') =>
  choice({ ipam: 'cluster-pool', 'cluster-pool-ipv4-cidr': text, 'cluster-pool-ipv4-mask-size': mask })

test('a prefix may be added to a pool; what stands there stays', () => {
  const before = pool('10.0.0.0/16 10.9.0.0/16')
  for (const [after, expected] of [
    [before, undefined],
    [pool('10.0.0.0/16,10.9.0.0/16,10.7.0.0/16'), undefined],
    [pool('10.9.0.0/16 10.0.0.0/16'), undefined],
    [pool('10.0.0.0/16'), /cluster-pool-ipv4-cidr has no 10\.9\.0\.0\/16 any more: nodes/],
    [pool('10.0.0.0/12'), /has no 10\.0\.0\.0\/16 any more, but 10\.0\.0\.0\/12/],
    [pool('10.0.0.0/16 10.9.0.0/16', '25'), /cluster-pool-ipv4-mask-size cannot change from 24 to 25/],
    [choice({}), /ipam cannot change from cluster-pool to kubernetes/],
  ] as const) {
    const [first] = poolChangeFaults(before, after)
    if (expected === undefined) assert.equal(first, undefined)
    else assert.match(first?.message ?? '', expected)
    assert.equal(first === undefined, first?.remedy === undefined)
  }
  assert.match(poolChangeFaults(choice({}), before)[0]?.message ?? '', /from kubernetes to cluster-pool/)
  assert.deepEqual(poolChangeFaults(choice({}), choice({ 'cluster-pool-ipv4-mask-size': '26' })), [])
})
