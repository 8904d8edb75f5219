import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Fault } from '#core/fault/fault.ts'
import { unwrap } from '#core/fault/result.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { Ipam, REUSE_DELAY } from './ipam.ts'

const cidrs = (...texts: string[]) => texts.map((text) => requireCidr(text, 'test'))
const dual = cidrs('10.244.1.0/29', 'fd00:1::/64')

test('internal IPs come first, pods get one address of each family, network and broadcast stay free', () => {
  const ipam = new Ipam(dual)
  assert.deepEqual(unwrap(ipam.reserveInternal(0)), { 4: '10.244.1.1', 6: 'fd00:1::1' })
  assert.deepEqual(unwrap(ipam.reserveInternal(9)), { 4: '10.244.1.1', 6: 'fd00:1::1' })
  const got = [1, 2, 3, 4, 5].map((n) => unwrap(ipam.allocate(`c${n}/eth0`, 0))[4])
  assert.deepEqual(got, ['10.244.1.2', '10.244.1.3', '10.244.1.4', '10.244.1.5', '10.244.1.6'])
  assert.deepEqual(unwrap(ipam.allocate('c1/eth0', 0)), { 4: '10.244.1.2', 6: 'fd00:1::2' }, 'the same owner again')
})

test('a used-up pod CIDR is named, and takes no address of the other family', () => {
  const ipam = new Ipam(dual)
  for (let n = 0; n < 6; n++) unwrap(ipam.allocate(`c${n}`, 0))
  const before = JSON.stringify(ipam.usage(), (_, v) => (typeof v === 'bigint' ? String(v) : v))
  const result = ipam.allocate('one-more', 0)
  assert.ok(!result.ok && result.error instanceof Fault)
  assert.equal(result.error.code, 'ipam.used-up')
  assert.match(result.error.message, /10\.244\.1\.0\/29/)
  assert.match(result.error.remedy ?? '', /max-pods/)
  assert.equal(
    JSON.stringify(ipam.usage(), (_, v) => (typeof v === 'bigint' ? String(v) : v)),
    before,
  )
})

test('an address rests before it is given out again, and the search goes round', () => {
  const ipam = new Ipam(cidrs('10.0.0.0/29'))
  for (let n = 0; n < 6; n++) unwrap(ipam.allocate(`c${n}`, 0))
  ipam.release('c3', 1000)
  assert.equal(ipam.release('c3', 1000), undefined)
  const early = ipam.allocate('x', 1000 + REUSE_DELAY - 1)
  assert.ok(!early.ok && early.error.code === 'ipam.resting')
  assert.equal(unwrap(ipam.allocate('x', 1000 + REUSE_DELAY))[4], '10.0.0.4')
  const round = new Ipam(cidrs('10.0.0.0/24'))
  unwrap(round.allocate('a', 0))
  round.release('a', 0)
  assert.equal(unwrap(round.allocate('b', REUSE_DELAY * 2))[4], '10.0.0.2')
})

test('a clock that was set back does not lock addresses away', () => {
  const ipam = new Ipam(cidrs('10.0.0.0/31'))
  unwrap(ipam.allocate('a', 5000))
  unwrap(ipam.allocate('b', 5000))
  ipam.release('a', 5000)
  assert.equal(unwrap(ipam.allocate('c', 10))[4], '10.0.0.0')
})

test('what does not fit the pod CIDRs any more is refused with its owner', () => {
  for (const [state, what] of [
    [null, /no JSON object/],
    [{ allocations: { pod: { 4: '10.9.0.1' } } }, /pod holds 10\.9\.0\.1.*none of/],
    [{ allocations: { pod: { 4: 'x' } } }, /no address/],
    [{ allocations: { a: { 4: '10.244.1.2' }, b: { 4: '10.244.1.2' } } }, /b holds 10\.244\.1\.2.*another/],
    [{ internal: { 4: '10.244.1.7' } }, /the node itself holds 10\.244\.1\.7.*reserved/],
  ] as const) {
    const result = Ipam.fromJson(dual, state)
    assert.ok(!result.ok)
    assert.match(result.error.message, what)
    assert.ok(result.error.remedy)
  }
})

test('any history: no address twice, none reserved, and the same after a restart', () => {
  const step = fc.record({
    owner: fc.integer({ min: 0, max: 12 }),
    add: fc.boolean(),
    wait: fc.integer({ min: 0, max: 90_000 }),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: 'max' }), fc.boolean(), (steps, restart) => {
      let ipam = new Ipam(dual)
      let now = 0
      unwrap(ipam.reserveInternal(0))
      const held = new Map<string, string>()
      const freed = new Map<string, number>()
      for (const { owner, add, wait } of steps) {
        now += wait
        if (restart) ipam = unwrap(Ipam.fromJson(dual, JSON.parse(JSON.stringify(ipam.toJson()))))
        const name = `pod${owner}`
        if (!add) {
          const had = ipam.release(name, now)?.[4]
          assert.equal(had, held.get(name))
          if (had !== undefined) freed.set(had, now)
          held.delete(name)
          continue
        }
        const result = ipam.allocate(name, now)
        if (!result.ok) {
          assert.ok(held.size + [...freed.values()].filter((t) => now - t < REUSE_DELAY).length >= 5)
          continue
        }
        const address = result.value[4] as string
        const before = held.get(name)
        if (before !== undefined) assert.equal(address, before)
        else {
          assert.ok(![...held.values()].includes(address))
          assert.ok(now - (freed.get(address) ?? -REUSE_DELAY) >= REUSE_DELAY)
        }
        assert.ok(!['10.244.1.0', '10.244.1.7', '10.244.1.1'].includes(address))
        freed.delete(address)
        held.set(name, address)
      }
    }),
    { numRuns: 500, seed: 7 },
  )
})
