import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Ip } from '#core/ip/address.ts'
import { healthLines } from '#core/status/health.ts'
import { createLog, SILENT } from '#io/telemetry/log.ts'
import { internalIpsOf, peerOf, snapshotOf } from '#test/kit/snapshots.ts'
import { Health } from './health.ts'

const LIMIT = { timeout: 100_000 }

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}

test('every node is asked by internal IP, a few at once, and who is silent is named since when', LIMIT, async () => {
  const peers = Array.from({ length: 40 }, (_, n) => peerOf(n + 2, 3))
  let [under, most] = [0, 0]
  const asked: string[] = []
  let silent: Ip | undefined = internalIpsOf(7)[4]
  const health = new Health(SILENT, {
    times: { period: 1, perNode: 0, atOnce: 4 },
    ask: async (ip, from) => {
      asked.push(ip)
      assert.equal(from, internalIpsOf(1)[4])
      most = Math.max(most, ++under)
      await new Promise((resolve) => setTimeout(resolve, 1))
      under--
      return ip !== silent
    },
    // nobody answers at these addresses here
    serve: false,
  })
  try {
    await health.follow(snapshotOf(1, 3, peers), { ask: true })
    await until(() => health.status !== undefined)
    assert.equal(health.status?.reachable, 40)
    assert.equal(health.status?.total, 41)
    assert.deepEqual(
      health.status?.unreachable.map(({ node }) => node),
      ['node-7'],
    )
    assert.equal(most, 4)
    assert.equal(new Set(asked).size, 40)
    const [first, named] = healthLines(health.status)
    assert.deepEqual(first?.slice(0, 2), ['Cluster health:', '40/41 reachable'])
    assert.equal(named?.[0], '  node-7')
    silent = undefined
    await until(() => health.status?.reachable === 41)
    assert.deepEqual(health.status?.unreachable, [])
    await health.follow(snapshotOf(1, 3, peers), { ask: false })
    assert.equal(health.status, undefined)
  } finally {
    await health.close()
  }
})

test('where it cannot answer is told once, not for each pod that comes', LIMIT, async () => {
  const lines: string[] = []
  const health = new Health(createLog({ write: (line) => void lines.push(line) }))
  // this machine has none of these addresses
  const snapshot = snapshotOf(1, 3, [])
  try {
    for (let pod = 0; pod < 3; pod++) await health.follow(snapshot, { ask: false })
    const told = lines.filter((line) => line.includes('cannot ask this one'))
    assert.equal(told.length, Object.keys(snapshot.self.internalIps).length)
  } finally {
    await health.close()
  }
})
