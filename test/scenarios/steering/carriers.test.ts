import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { IpsecShape } from '#core/ipsec/shape.ts'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'
import { CONFIG, ipsecConfig } from '#test/kit/snapshots.ts'
import { lacking, SteeringCluster, withoutLines } from './cluster.ts'

/**
 * A pod speaks to other nodes as its own node. What it sends there first, from the port that carries all others' packets,
 * must not make connection tracking hand these packets to it, or refuse them.
 */
const skip = lacking() ?? false
let cluster: SteeringCluster
before(async () => {
  if (skip === false) cluster = await SteeringCluster.make(2)
})
after(async () => {
  await cluster?.close()
})

const POD1 = '10.244.1.10'
const POD2 = '10.244.2.10'
const NODE2 = '172.18.0.4'
const NODE2_6 = 'fc00:18::4'
const tracked = withoutLines(/ notrack$/)
const clear = { levels: [0, 0] } as const
const closed = { levels: [3, 3] } as const
/** Ports of its own, which no test before has spoken by: what connection tracking knows is not forgotten at once. */
const IPSEC_PORT = 4511
const WIREGUARD_PORT = 51911

const esp = (shape: IpsecShape) => {
  const config = ipsecConfig(shape)
  return { ...config, encryption: { ...config.encryption, ipsec: { shape, port: IPSEC_PORT } } }
}
const wireguard = { encryption: { ...CONFIG.encryption, listenPort: WIREGUARD_PORT } }

for (const { carrier, config, speak, always } of [
  { carrier: 'ESP in UDP', config: esp('udp'), speak: `udp ${NODE2} ${IPSEC_PORT} ${IPSEC_PORT}`, always: true },
  { carrier: 'ESP', config: esp('esp'), speak: `esp ${NODE2}` },
  { carrier: 'VXLAN in ESP', config: esp('vxlan-in-esp'), speak: `esp ${NODE2}` },
  { carrier: 'WireGuard', config: wireguard, speak: `udp ${NODE2} ${WIREGUARD_PORT} ${WIREGUARD_PORT}` },
]) {
  test(`${carrier}: a pod that spoke first, as its node, gets and stops nothing`, {
    skip: skip || (always || SLOW ? false : SLOW_HINT),
  }, async () => {
    for (const [without, through] of [
      [undefined, true],
      [tracked, false],
    ] as const) {
      // the engine is not there yet, and nothing keeps a pod from using its ports
      await cluster.be({ ...clear, config })
      cluster.speak('p1', speak)
      await cluster.be({ ...closed, config, ...(without === undefined ? {} : { without }) })
      assert.equal(cluster.ping('p2', POD1), through ? 3 : 0, `with${through ? '' : 'out'} the measure`)
    }
    // later it is kept from it, and what is tracked by now does no harm (WireGuard has waited in vain: begin anew)
    await cluster.be({ ...clear, config })
    await cluster.be({ ...closed, config })
    const before = cluster.dropped(1, 'carrier_by_pod')
    const seen = await cluster.watch('wire', 'br0', () => {
      cluster.speak('p1', speak)
      cluster.speak('p1', speak.replace(NODE2, NODE2_6))
    })
    assert.equal(cluster.dropped(1, 'carrier_by_pod'), before + 2)
    assert.ok(!seen.marked)
    assert.equal(cluster.ping('p1', POD2), 3)
    assert.equal(cluster.ping('p2', POD1), 3)
  })
}

test('VXLAN: a pod that spoke from its port does not get what is for other pods', { skip }, async () => {
  // by one of few ports, as a flow's hash says: a pod need only try them all
  const range = cluster.run('n2', 'sysctl -n net.ipv4.ip_local_port_range').trim().replace(/\s+/, ' ')
  const ports = Array.from({ length: 8 }, (_, index) => 40_000 + index)
  await cluster.be(clear)
  cluster.sysctl('n2', 'net.ipv4.ip_local_port_range', `${ports[0]} ${ports.at(-1)}`)
  try {
    for (const [without, arrives] of [
      [undefined, true],
      [tracked, false],
    ] as const) {
      await cluster.be({ ...clear, ...(without === undefined ? {} : { without }) })
      cluster.speak('p1', `udp ${NODE2} 8472 ${ports.join(' ')}`)
      const seen = await cluster.watch('p1', 'eth0', () =>
        assert.equal(cluster.ping('p2', POD1), arrives ? 3 : 0, `with${arrives ? '' : 'out'} the measure`),
      )
      // with the frames of others in it
      assert.equal(/\.8472: (OTV|VXLAN)/.test(seen.lines), !arrives)
    }
  } finally {
    cluster.sysctl('n2', 'net.ipv4.ip_local_port_range', range)
  }
})

test('two nodes of which one sends ESP in UDP and the other ESP, closed to all else', {
  skip: skip || (SLOW ? false : SLOW_HINT),
}, async () => {
  const own = (n: number) => ipsecConfig(n === 1 ? 'udp' : 'esp', { nodeEncryption: true })
  await cluster.be({ ...closed, own, refusing: true })
  const seen = await cluster.watch('wire', 'br0', () => assert.equal(cluster.ping('p1', POD2), 3))
  assert.match(seen.lines, /172\.18\.0\.3\.4500 > 172\.18\.0\.4\.4500: UDP-encap: ESP/)
  assert.match(seen.lines, /172\.18\.0\.4 > 172\.18\.0\.3: ESP/)
  assert.equal(cluster.ping('n1', NODE2), 3)
  assert.equal(cluster.ping('p2', 'fc00:18::3'), 3)
  // a node that lets in only what it sends itself
  await cluster.be({ ...closed, own, refusing: true, without: withoutLines(/^ {2}meta l4proto esp accept/) })
  assert.equal(cluster.ping('p1', POD2), 0)
})
