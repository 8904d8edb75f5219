import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { NodePool } from '#core/api/pool.ts'
import { requireIp } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, cidrOf, containsCidr, lengthOf, nthIp, overlaps, requireCidr } from '#core/ip/cidr.ts'
import type { PerFamily } from '#core/plan/snapshot.ts'
import { ClusterPool, type PoolNode } from './cluster-pool.ts'

const cidrs = (...texts: string[]) => texts.map((text) => requireCidr(text, 'test'))

function node(name: string, podCidrs: readonly string[] = [], more: Partial<PoolNode> = {}): PoolNode {
  return { name, since: '2026-11-21T10:00:00Z', podCidrs, exists: true, ...more }
}

function pool(v4: string, maskSize = 24): { 4: NodePool } {
  return { 4: { cidrs: cidrs(...v4.split(' ')), maskSize } }
}

/** Of each node: what it got, or what is wrong. */
function told(allotted: ReturnType<ClusterPool['allot']>): Record<string, string> {
  return Object.fromEntries(
    [...allotted].map(([name, { podCidrs, fault }]) => [name, fault?.code ?? podCidrs?.join(' ') ?? 'stays']),
  )
}

test('one of each family for every node, in order of age, and nothing again once it stands there', () => {
  const pools = { ...pool('10.0.0.0/8'), 6: { cidrs: cidrs('fd00::/104'), maskSize: 120 } }
  const clusterPool = new ClusterPool(pools)
  const nodes = [node('b'), node('a'), node('old', [], { since: '2026-11-20T10:00:00Z' })]
  const first: Record<string, string> = told(clusterPool.allot(nodes))
  assert.deepEqual(first, {
    old: '10.0.0.0/24 fd00::/120',
    a: '10.0.1.0/24 fd00::100/120',
    b: '10.0.2.0/24 fd00::200/120',
  })
  assert.deepEqual(told(clusterPool.allot(nodes)), first, 'the same until it is seen')
  const written = nodes.map((each) => ({
    ...each,
    podCidrs: String(Object.entries(first).find(([name]) => name === each.name)?.[1]).split(' '),
  }))
  for (const again of [clusterPool, new ClusterPool(pools)]) {
    assert.deepEqual(told(again.allot(written)), { old: 'stays', a: 'stays', b: 'stays' })
    assert.deepEqual(again.usage, [
      { family: 4, used: 3n, capacity: 65536n },
      { family: 6, used: 3n, capacity: 65536n },
    ])
    assert.equal(told(again.allot([...written, node('c')]))['c'], '10.0.3.0/24 fd00::300/120')
  }
})

test('a node whose Node is gone keeps what it holds, and gets nothing', () => {
  const gone = { exists: false }
  const clusterPool = new ClusterPool(pool('10.0.0.0/24', 25))
  assert.deepEqual(told(clusterPool.allot([node('x', ['10.0.0.0/25'], gone), node('y', [], gone), node('z')])), {
    x: 'stays',
    y: 'stays',
    z: '10.0.0.128/25',
  })
})

test('what was given back rests as long as there is something else; who comes back finds it again', () => {
  const clusterPool = new ClusterPool(pool('10.0.0.0/22'))
  const [a, b] = [node('a', ['10.0.0.0/24']), node('b', ['10.0.1.0/24'])]
  clusterPool.allot([a, b])
  assert.equal(told(clusterPool.allot([b, node('c')]))['c'], '10.0.2.0/24')
  const c = node('c', ['10.0.2.0/24'])
  assert.equal(told(clusterPool.allot([b, c, node('a')]))['a'], '10.0.0.0/24')
  const d = node('d', ['10.0.3.0/24'])
  clusterPool.allot([b, c, d])
  assert.equal(told(clusterPool.allot([b, c, d, node('e')]))['e'], '10.0.0.0/24', 'the last one there is')
  assert.equal(told(clusterPool.allot([b, c, d, node('e', ['10.0.0.0/24']), node('a')]))['a'], 'ipam.pool.used-up')
})

test('what is promised is nobody elses, even when another held it once', () => {
  const clusterPool = new ClusterPool(pool('10.0.0.0/23'))
  const before = { since: '2026-11-20T00:00:00Z' }
  clusterPool.allot([node('a', ['10.0.0.0/24'], before), node('x', ['10.0.1.0/24'])])
  // the older one lost its entry; what it had went to another that does not show it yet
  clusterPool.allot([node('x', ['10.0.1.0/24'])])
  assert.equal(told(clusterPool.allot([node('b'), node('x', ['10.0.1.0/24'])]))['b'], '10.0.0.0/24')
  assert.deepEqual(told(clusterPool.allot([node('a', [], before), node('b'), node('x', ['10.0.1.0/24'])])), {
    a: 'ipam.pool.used-up',
    b: '10.0.0.0/24',
    x: 'stays',
  })
})

test('a used-up pool is named with what to do; a prefix more is taken after the first', () => {
  const nodes = [node('a', ['10.0.0.0/25']), node('b', ['10.0.0.128/25']), node('c')]
  const { fault, podCidrs } = new ClusterPool(pool('10.0.0.0/24', 25)).allot(nodes).get('c') ?? {}
  assert.equal(podCidrs, undefined)
  assert.equal(fault?.code, 'ipam.pool.used-up')
  assert.match(fault.message, /the pool 10\.0\.0\.0\/24 \(cluster-pool-ipv4-cidr\) .* no \/25 left for node c/)
  assert.match(fault.remedy ?? '', /clusterPoolIPv4PodCIDRList/)
  assert.equal(told(new ClusterPool(pool('10.0.0.0/24 10.9.0.0/16', 25)).allot(nodes))['c'], '10.9.0.0/25')
  const dual = new ClusterPool({ ...pool('10.0.0.0/8'), 6: { cidrs: cidrs('fd00::/120'), maskSize: 120 } })
  const two = dual.allot([node('a', ['10.0.0.0/24', 'fd00::/120']), node('b')])
  assert.equal(told(two)['b'], 'ipam.pool.used-up', 'one family alone helps nobody')
  assert.deepEqual(
    dual.usage.map(({ used }) => used),
    [1n, 1n],
  )
})

test('the younger of two that overlap is told; what is outside of the pool, or no prefix, too; none is taken away', () => {
  const allotted = new ClusterPool(pool('10.0.0.0/16')).allot([
    node('wide', ['10.0.0.0/20'], { since: '2026-11-22T00:00:00Z' }),
    node('narrow', ['10.0.3.0/24']),
    node('outside', ['192.168.0.0/24']),
    node('broken', ['10.0.77.0']),
    node('fresh'),
  ])
  assert.deepEqual(told(allotted), {
    wide: 'ipam.pool.overlap',
    narrow: 'stays',
    outside: 'ipam.pool.outside',
    broken: 'ipam.pool.malformed',
    fresh: '10.0.16.0/24',
  })
  const sentence = (name: string) => allotted.get(name)?.fault?.message ?? ''
  assert.match(sentence('wide'), /10\.0\.0\.0\/20 of node wide overlaps 10\.0\.3\.0\/24 of node narrow/)
  assert.match(sentence('outside'), /192\.168\.0\.0\/24 of node outside .*cluster-pool-ipv4-cidr is 10\.0\.0\.0\/16/)
  assert.match(sentence('broken'), /podCIDRs\[0\] of node broken is no prefix: "10\.0\.77\.0"/)
  assert.ok([...allotted.values()].every(({ podCidrs, fault }) => podCidrs === undefined || fault === undefined))
})

test('a node with running pods gets what they have addresses of, and nobody before it does', () => {
  const clusterPool = new ClusterPool(pool('10.0.0.0/22'))
  const ips = (...texts: string[]) => texts.map((text) => requireIp(text, 'test'))
  clusterPool.keepFor(
    new Map([
      ['late', ips('10.0.0.7', '10.0.0.9')],
      ['other', ips('192.168.0.1')],
    ]),
  )
  const first = told(clusterPool.allot([node('a'), node('other')]))
  assert.deepEqual(first, { a: '10.0.1.0/24', other: '10.0.2.0/24' })
  const held = [node('a', ['10.0.1.0/24']), node('other', ['10.0.2.0/24'])]
  const second = told(clusterPool.allot([...held, node('late'), node('c'), node('d')]))
  assert.deepEqual([second['late'], second['c'], second['d']], ['10.0.0.0/24', '10.0.3.0/24', 'ipam.pool.used-up'])
})

test('what is kept for a node is free again when the node is gone from the cluster', () => {
  const clusterPool = new ClusterPool(pool('10.0.0.0/23'))
  clusterPool.keepFor(new Map([['late', [requireIp('10.0.0.7', 'test')]]]))
  const nodes = [node('a', ['10.0.1.0/24']), node('b')]
  assert.equal(told(clusterPool.allot(nodes))['b'], 'ipam.pool.used-up')
  assert.equal(told(clusterPool.allot(nodes, (name) => name !== 'late'))['b'], '10.0.0.0/24')
})

test('a prefix that was added is used when all nodes guard it, not before', () => {
  const clusterPool = new ClusterPool(pool('10.0.0.0/24 10.9.0.0/16'))
  const [old, all] = [cidrs('10.0.0.0/24'), cidrs('10.0.0.0/24', '10.9.0.0/16')]
  const a = node('a', ['10.0.0.0/24'], { guards: old })
  const gone = node('gone', [], { guards: old, exists: false })
  const fault = clusterPool.allot([a, gone, node('b')]).get('b')?.fault
  assert.equal(fault?.code, 'ipam.pool.not-guarded')
  assert.match(fault.message, /node b waits for 10\.9\.0\.0\/16 \(cluster-pool-ipv4-cidr\): nodes a do not/)
  assert.equal(told(clusterPool.allot([{ ...a, guards: [] }, node('b')]))['b'], 'ipam.pool.not-guarded')
  const wider = cidrs('10.0.0.0/8')
  for (const guards of [all, wider]) {
    assert.equal(told(clusterPool.allot([{ ...a, guards }, gone, node('b')]))['b'], '10.9.0.0/24')
  }
})

test('a family that is turned on later is given to those that have the other', () => {
  const pools = { ...pool('10.0.0.0/16'), 6: { cidrs: cidrs('fd00::/104'), maskSize: 120 } }
  assert.deepEqual(told(new ClusterPool(pools).allot([node('a', ['10.0.5.0/24'])])), { a: '10.0.5.0/24 fd00::/120' })
  assert.deepEqual(told(new ClusterPool(pool('10.0.0.0/16')).allot([node('a', ['10.0.5.0/24', 'fd00::/120'])])), {
    a: 'stays',
  })
})

/** All blocks of the pool, the slow way. */
function blocks({ cidrs: pools, maskSize }: NodePool): Cidr[] {
  return pools.flatMap((cidr) => {
    const bits = BigInt((cidrFamily(cidr) === 4 ? 32 : 128) - maskSize)
    return Array.from({ length: 1 << (maskSize - lengthOf(cidr)) }, (_, i) => {
      return cidrOf(nthIp(cidr, BigInt(i) << bits), maskSize)
    })
  })
}

test('any history: never an overlap, never a free block refused, nothing lost by a restart or a late view', () => {
  const pools: PerFamily<NodePool> = {
    4: { cidrs: cidrs('10.0.0.0/28', '10.1.0.0/29'), maskSize: 30 },
    6: { cidrs: cidrs('fd00::/124'), maskSize: 126 },
  }
  const step = fc.oneof(
    fc.record({ kind: fc.constantFrom('join' as const, 'leave' as const, 'lose' as const), name: fc.nat(9) }),
    fc.record({
      kind: fc.constant('claim' as const),
      name: fc.nat(9),
      length: fc.constantFrom(29, 30, 31),
      at: fc.nat(15),
    }),
    fc.record({ kind: fc.constantFrom('restart' as const, 'see' as const) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: 'max' }), fc.boolean(), (steps, dual) => {
      const used = dual ? pools : { 4: pools[4] as NodePool }
      let clusterPool = new ClusterPool(used)
      /** What the API server has, and what the operator sees of it. */
      const server = new Map<string, PoolNode>()
      let seen: readonly PoolNode[] = []
      let since = 0
      const allotAndWrite = () => {
        const allotted = clusterPool.allot(seen)
        for (const [name, { podCidrs, fault }] of allotted) {
          const { podCidrs: had } = seen.find((each) => each.name === name) as PoolNode
          const target = server.get(name)
          if (podCidrs !== undefined) {
            assert.ok(
              had.every((text) => podCidrs.includes(text as Cidr)),
              'what it had stays',
            )
            // written only over what was seen, as the operator does it
            if (target !== undefined && target.podCidrs === had) server.set(name, { ...target, podCidrs })
          }
          if (fault?.code === 'ipam.pool.used-up') {
            const everything = [...server.values(), ...seen].flatMap((each) => each.podCidrs as Cidr[])
            const given = [...allotted.values()].flatMap((each) => each.podCidrs ?? [])
            const short = Object.values(used).some((each: NodePool) =>
              blocks(each).every((block) => [...everything, ...given].some((other) => overlaps(block, other))),
            )
            assert.ok(short, 'nothing free is refused')
          }
        }
      }
      for (const each of steps) {
        const name = 'name' in each ? `n${each.name}` : ''
        if (each.kind === 'join' && !server.has(name)) server.set(name, node(name, [], { since: String(since++) }))
        if (each.kind === 'leave') server.delete(name)
        if (each.kind === 'lose' && server.has(name))
          server.set(name, { ...(server.get(name) as PoolNode), podCidrs: [] })
        if (each.kind === 'claim') {
          // somebody else writes by hand, but nothing that is another's
          const cidr = cidrOf(nthIp(requireCidr('10.0.0.0/28', 'test'), BigInt(each.at)), each.length)
          seen = [...server.values()]
          allotAndWrite()
          const others = [...server.values()].filter((other) => other.name !== name)
          if (others.every((other) => other.podCidrs.every((text) => !overlaps(text as Cidr, cidr)))) {
            server.set(name, node(name, [cidr], { since: String(since++) }))
          }
        }
        if (each.kind === 'restart') clusterPool = new ClusterPool(used)
        // a new operator lists first
        if (each.kind === 'restart' || each.kind === 'see') seen = [...server.values()]
        allotAndWrite()
        const held = [...server.values()].flatMap((one) =>
          one.podCidrs.map((text) => [one.name, text as Cidr] as const),
        )
        for (const [i, [one, a]] of held.entries()) {
          for (const [other, b] of held.slice(i + 1)) {
            assert.ok(!overlaps(a, b), `${one} ${a} and ${other} ${b}`)
          }
        }
      }
      seen = [...server.values()]
      allotAndWrite()
      const settled = [...server.values()]
      for (const again of [clusterPool, new ClusterPool(used)]) {
        for (const { podCidrs, fault } of again.allot(settled).values()) {
          assert.equal(podCidrs, undefined, 'all that can be given was')
          assert.ok(fault === undefined || fault.code === 'ipam.pool.used-up')
        }
      }
      for (const { podCidrs } of settled) {
        if (podCidrs.length === 0) continue
        assert.ok(
          podCidrs.some((text) => [...cidrs('10.0.0.0/28', '10.1.0.0/29')].some((p) => containsCidr(p, text as Cidr))),
        )
      }
    }),
    { seed: 20261121, numRuns: 120 },
  )
})
