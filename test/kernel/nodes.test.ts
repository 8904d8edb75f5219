import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { IPSEC_DEVICE } from '#core/plan/names.ts'
import { missingForEnds, until } from './esp-ends.ts'
import { gcm } from './ipsec-nodes.ts'
import { type Mode, NodeCluster } from './node-cluster.ts'

// Whole nodes on the guest's real kernel (tools/kernel): two whose datapath is the kernel's, one with the engine.

const [K3, K4] = [gcm(3, 0x33), gcm(4, 0x44)]
const MODES: readonly Mode[] = ['auto', 'udp', 'esp', 'esp-in-vxlan', 'vxlan-in-esp', 'wireguard']
/** What goes between the nodes, as tcpdump says it. */
const WIRE: Readonly<Record<Mode, RegExp>> = {
  auto: /: ESP\(spi=0x00000003/,
  udp: /UDP-encap: ESP\(spi=0x00000003/,
  esp: /: ESP\(spi=0x00000003/,
  // tcpdump takes port 8472 for another protocol with the same header
  'esp-in-vxlan': /\.8472: .*\n *IP 10\.244\.1\.1 > 10\.244\.\d\.1: ESP\(spi=0x00000003/,
  'vxlan-in-esp': /: ESP\(spi=0x00000003/,
  wireguard: /\.51871 > /,
}
const skip = missingForEnds() ?? false
let cluster: NodeCluster

suite('nodes of both datapaths', { skip, concurrency: 1 }, () => {
  before(async () => {
    cluster = await NodeCluster.make(['kernel', 'kernel', 'userspace'])
  })
  after(async () => await cluster?.close())

  for (const mode of MODES) {
    test(`${mode}: pods and hosts of all three reach each other, and nothing goes in clear`, async (t) => {
      t.after(async () => t.passed || t.diagnostic(await cluster.diagnose()))
      await cluster.be(mode, mode === 'wireguard' ? [] : [K3])
      if (mode !== 'wireguard') await heard()
      // what was under way while the wire changed, and the device's own greetings to the link
      const before = [1, 2, 3].map(drops)
      const { lines, marked } = await cluster.watch(async () => {
        for (const [from, to] of [
          [1, 2],
          [1, 3],
          [3, 2],
        ] as const) {
          for (const family of [4, 6] as const) {
            const said = `node ${from} to ${to}, IPv${family}`
            assert.equal(cluster.ping(`p${from}`, cluster.podOf(to, family)), 3, `pods, ${said}`)
            assert.equal(cluster.ping(`n${from}`, cluster.podOf(to, family)), 3, `host to pod, ${said}`)
          }
        }
        for (const [from, to] of [
          [1, 2],
          [2, 3],
          [3, 1],
        ] as const) {
          const arrived = await cluster.tcp(`p${from}`, `p${to}`, cluster.podOf(to, 4), 1_000_000)
          assert.equal(arrived, 1_000_000, `TCP from node ${from} to ${to}`)
        }
      })
      assert.ok(!marked, 'a ping went in clear')
      assert.match(lines, WIRE[mode])
      assert.deepEqual([1, 2, 3].map(drops), before)
    })
  }

  test('a rotation with both datapaths under ping loses nothing', async (t) => {
    t.after(async () => t.passed || t.diagnostic(await cluster.diagnose()))
    await cluster.be('auto', [K3])
    await heard()
    const streams = [
      cluster.stream('p1', cluster.podOf(2, 4)),
      cluster.stream('p1', cluster.podOf(3, 4)),
      cluster.stream('p3', cluster.podOf(2, 6)),
    ]
    await cluster.be('auto', [K3, K4], K3)
    await cluster.be('auto', [K3, K4], K4)
    // as core/transition/rotation.ts: what is under way arrives
    await sleep(3000)
    await cluster.be('auto', [K4], K4)
    const losses = await Promise.all(streams.map((stop) => stop()))
    for (const { sent, lost } of losses) assert.ok(sent > 0 && lost === 0, JSON.stringify(losses))
  })
})

function drops(n: number): Record<string, number> {
  const { multicast: _, ...rest } = cluster.drops(n)
  return rest
}

/** All have heard all others, without any traffic of pods. */
async function heard(): Promise<void> {
  for (const n of [1, 2, 3]) {
    await until(`node ${n} has heard the others`, async () => {
      const peers = (await cluster.datapath(n).observeIpsec(IPSEC_DEVICE))?.peers
      return peers?.length === 2 && peers.every((peer) => peer.heard)
    })
  }
}
