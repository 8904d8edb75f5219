import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PlanConfig } from '#core/plan/snapshot.ts'
import { CLOSED, type Level } from '#core/transition/level.ts'
import { firstAnnouncement, nextLevel } from '#core/transition/next-level.ts'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'
import { CONFIG, ipsecConfig } from '#test/kit/snapshots.ts'
import { assertNothingLost, lacking, SteeringCluster } from './cluster.ts'
import { Marked } from './marked.ts'

/** Encryption turned on and off under traffic, by the rules of core/transition, with plans applied for real. */
const skip = lacking() ?? false
/** What happens between two steps of an apply strikes one packet in thousands. */
const ROUNDS = SLOW ? 10 : 1

/** Lets the nodes decide in turn until nobody moves; gives every state on the way. */
function* way(from: readonly Level[], wanted: boolean): Generator<readonly Level[]> {
  const nodes = from.map((level) => ({ ...firstAnnouncement(!wanted, []), level }))
  for (let moved = true; moved; ) {
    moved = false
    for (const [n, own] of nodes.entries()) {
      const peers = nodes.flatMap((announcement, m) => (m === n ? [] : [{ name: `node-${m + 1}`, announcement }]))
      const { next } = nextLevel({ wanted, own, ownSeen: own, receiving: true, peers })
      if (next === own) continue
      moved = true
      nodes[n] = next
      if (next.level !== own.level) yield nodes.map(({ level }) => level)
    }
  }
}

const WIREGUARD: Partial<PlanConfig> = { encryption: CONFIG.encryption }

for (const [name, older] of [
  ['WireGuard', WIREGUARD],
  ['ESP in UDP', ipsecConfig('udp')],
  ['ESP', ipsecConfig('esp')],
  ['ESP in VXLAN', ipsecConfig('esp-in-vxlan')],
  ['VXLAN in ESP', ipsecConfig('vxlan-in-esp')],
] as const) {
  const later = name !== 'WireGuard' && name !== 'ESP in UDP' && !SLOW ? SLOW_HINT : false
  describe(name, { skip: skip || later }, () => {
    let cluster: SteeringCluster
    before(async () => {
      cluster = await SteeringCluster.make(2, older)
    })
    after(async () => {
      await cluster?.close()
    })

    for (const nodeEncryption of [false, true]) {
      test(`turning on and off loses no packet${nodeEncryption ? ', of hosts neither' : ''}`, async (t) => {
        const config = { encryption: { ...CONFIG.encryption, ...older.encryption, nodeEncryption } }
        await cluster.be({ levels: [0, 0], config })
        assert.equal(cluster.reach('p1', '10.244.2.10'), 3)
        const mtu = Number(/default .* mtu (\d+)/.exec(cluster.run('p1', 'ip route show'))?.[1])
        const before = cluster.overruns
        const marked = new Marked(cluster, 'marked', 'PELLICLE-MARKER!')
        // by design WireGuard leaves in clear what pods say to nodes, without nodeEncryption, and both what nodes do
        const asked = nodeEncryption || name !== 'WireGuard' ? marked.pattern : []
        const streams = [
          cluster.stream('p1', '10.244.2.10', ...marked.pattern),
          cluster.stream('p2', 'fd00:10:244:1::a', ...marked.pattern),
          cluster.stream('n2', '10.244.1.10', ...marked.pattern),
          cluster.stream('p1', '172.18.0.4', ...asked),
          cluster.stream('p2', 'fc00:18::3', ...asked),
          cluster.stream('n1', '172.18.0.4', ...(nodeEncryption ? marked.pattern : [])),
          // as large as the pod may send, which was there before encryption was asked for, and never cut
          cluster.stream('p1', '10.244.2.10', '-M', 'do', '-s', String(mtu - 28), ...marked.pattern),
          cluster.stream('n1', '10.244.2.10', '-s', '1600'),
        ]
        for (let round = 0; round < ROUNDS; round++) {
          const seen: string[] = []
          for (const [from, wanted] of [
            [[0, 0], true],
            [[3, 3], false],
          ] as const) {
            for (const levels of way(from, wanted)) {
              seen.push(levels.join(''))
              await cluster.be({ levels, config })
              const earlier = marked.inClear
              await sleep(200)
              if (levels.includes(CLOSED)) assert.equal(marked.inClear, earlier, `in clear at ${levels.join()}`)
            }
          }
          assert.deepEqual(seen, ['10', '11', '21', '22', '32', '33', '23', '22', '12', '11', '01', '00'])
        }
        assert.ok(marked.inClear > 0, 'and it is seen in clear before')
        const ended = await Promise.all(streams.map((stop) => stop()))
        assertNothingLost(t, ended, cluster.overruns - before)
      })
    }
  })
}
