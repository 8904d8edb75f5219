import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { CLOSED, type Level } from '#core/transition/level.ts'
import { type EncryptionType, nextMode, settledIn } from '#core/transition/mode.ts'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'
import { ipsecConfig } from '#test/kit/snapshots.ts'
import { assertNothingLost, lacking, SteeringCluster } from './cluster.ts'
import { Marked } from './marked.ts'

/**
 * WireGuard turned into IPsec and back on closed nodes under traffic, by the rules of core/transition/mode.ts, with plans
 * applied for real. WireGuard's engine is the real one; a program stands in for that of ESP, which encrypts nothing but
 * does not leave the inner packet readable.
 */
const skip = lacking() ?? false

/** Lets the nodes decide in turn until nobody moves; gives every state on the way. */
function* way(from: EncryptionType, wanted: EncryptionType): Generator<readonly Level[]> {
  const nodes = [settledIn(from), settledIn(from)]
  for (let moved = true; moved; ) {
    moved = false
    for (const [n, own] of nodes.entries()) {
      const peers = nodes.flatMap((announcement, m) =>
        m === n ? [] : [{ name: `node-${m + 1}`, announcement: { ...announcement, proven: true } }],
      )
      const rest = { missing: undefined, unproven: [], now: 5000 }
      const { next } = nextMode({ wanted, own, ownSeen: own, peers, quiet: { epoch: own.epoch, since: 0 }, ...rest })
      if (next === own) continue
      moved = true
      nodes[n] = next
      if (next.level !== own.level) yield nodes.map(({ level }) => level)
    }
  }
}

for (const [name, shape] of [
  ['ESP in UDP', 'udp'],
  ['ESP', 'esp'],
  ['ESP in VXLAN', 'esp-in-vxlan'],
  ['VXLAN in ESP', 'vxlan-in-esp'],
] as const) {
  const later = SLOW ? false : SLOW_HINT
  describe(`WireGuard and ${name}`, { skip: skip || later }, () => {
    let cluster: SteeringCluster
    before(async () => {
      cluster = await SteeringCluster.make(2, ipsecConfig(shape))
    })
    after(async () => {
      await cluster?.close()
    })

    for (const nodeEncryption of [false, true]) {
      test(`no packet is lost or in clear${nodeEncryption ? ', of hosts neither' : ''}`, async (t) => {
        const config = ipsecConfig(shape, { nodeEncryption })
        await cluster.be({ levels: [3, 3], stages: [0, 0], config })
        assert.equal(cluster.reach('p1', '10.244.2.10'), 3)
        assert.equal(cluster.reach('n1', '172.18.0.4'), 3)
        const marked = ['-s', '64', '-p', Buffer.from('PELLICLE-MARKER!').toString('hex')]
        const mtu = Number(/default .* mtu (\d+)/.exec(cluster.run('p1', 'ip route show'))?.[1])
        // by design WireGuard leaves in clear what pods say to nodes, without nodeEncryption
        const toNodes = new Marked(cluster, 'to_nodes', 'PELLICLE-TO-NODE')
        const asked = ['-s', '64', ...toNodes.pattern]
        const seen: string[] = []
        const wire = await cluster.watch('wire', 'br0', async () => {
          const before = cluster.overruns
          const streams = [
            cluster.stream('p1', '10.244.2.10', ...marked),
            cluster.stream('p2', 'fd00:10:244:1::a', ...marked),
            cluster.stream('n2', '10.244.1.10', ...marked),
            cluster.stream('p1', '10.244.2.10', '-M', 'do', '-s', String(mtu - 28)),
            cluster.stream('p1', '172.18.0.4', ...asked),
            cluster.stream('p2', 'fc00:18::3', ...asked),
            // and what nodes say to nodes is in clear with both
            ...(nodeEncryption ? [cluster.stream('n1', '172.18.0.4', ...marked)] : []),
          ]
          for (const [from, to] of [
            ['wireguard', 'ipsec'],
            ['ipsec', 'wireguard'],
          ] as const) {
            for (const stages of way(from, to)) {
              seen.push(stages.join(''))
              await cluster.be({ levels: [3, 3], stages, config })
              const earlier = toNodes.inClear
              await sleep(200)
              const isClosed = nodeEncryption || stages.includes(CLOSED)
              if (isClosed) assert.equal(toNodes.inClear, earlier, `in clear at ${stages.join()}`)
            }
          }
          const ended = await Promise.all(streams.map((stop) => stop()))
          assertNothingLost(t, ended, cluster.overruns - before)
        })
        assert.deepEqual(seen, ['10', '11', '21', '22', '32', '33', '23', '22', '12', '11', '01', '00'])
        assert.ok(!wire.marked, 'a marker on the wire')
        assert.equal(toNodes.inClear > 0, !nodeEncryption, 'it is seen in clear before, and after')
        assert.match(wire.lines, /51871/)
        assert.match(wire.lines, /ESP\(spi|UDP-encap: ESP/)
      })
    }
  })
}
