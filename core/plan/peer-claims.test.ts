import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cidr, ip, keyOf, nodeIpsOf, peerOf, podCidrsOf, snapshotOf } from '#test/kit/snapshots.ts'
import { plan } from './plan.ts'
import type { Peer } from './snapshot.ts'

/** What a closed node with these peers would send where, and what it complains about. */
function seen(...peers: Peer[]) {
  const p = plan(snapshotOf(1, 3, peers))
  assert.ok(p.usable)
  const reached = p.wireguard?.peers.flatMap(({ endpoint, allowedIps }) =>
    allowedIps.filter((prefix) => !prefix.includes(':')).map((prefix) => `${prefix} ${endpoint?.ip}`),
  )
  return { reached: reached?.sort(), problems: p.problems.map(({ code, object }) => `${code} ${object}`).sort() }
}

const B = ['10.244.2.0/24 172.18.0.4', '10.244.2.1/32 172.18.0.4', '172.18.0.4/32 172.18.0.4']
const halves = [cidr('10.244.2.0/25'), cidr('10.244.2.128/25')]

test('the halves of another node’s pod CIDR are not taken from it', () => {
  const thief = peerOf(3, 3, { podCidrs: halves, internalIps: {} })
  const granted = { podCidrs: podCidrsOf(3), nodeIps: Object.values(nodeIpsOf(3)), optedOut: false }
  assert.deepEqual(seen(peerOf(2, 3), { ...thief, granted }), {
    reached: [...B, '172.18.0.5/32 172.18.0.5'],
    problems: halves.map(() => 'peer.pod-cidr.not-granted CiliumNode/node-3'),
  })
  // as if the Node said so, too: nobody gets what two claim
  assert.deepEqual(seen(peerOf(2, 3), thief).reached, ['172.18.0.4/32 172.18.0.4', '172.18.0.5/32 172.18.0.5'])
})

test('an address that the Node does not have draws nothing', () => {
  const granted = { podCidrs: podCidrsOf(2), nodeIps: Object.values(nodeIpsOf(2)), optedOut: false }
  const { reached, problems } = seen(peerOf(2, 3, { nodeIps: { 4: ip('1.1.1.1') }, granted }))
  assert.deepEqual(reached, [])
  assert.deepEqual(problems, ['peer.ip.not-granted CiliumNode/node-2'])
})

test('a CiliumNode without a Node is not used, and takes nothing from those that have one', () => {
  for (const level of [0, 1, 2, 3] as const) {
    const p = plan(snapshotOf(1, level, [peerOf(2, 3, { granted: undefined })]))
    assert.ok(p.usable)
    assert.ok(!p.host.routes.some(({ destination }) => destination.startsWith('10.244.2.')))
    assert.deepEqual(p.host.fdb, [])
    assert.deepEqual(p.wireguard?.peers ?? [], [])
  }
  const ghost = peerOf(3, 3, {
    podCidrs: podCidrsOf(2),
    nodeIps: nodeIpsOf(2),
    internalIps: {},
    publicKeyText: keyOf(2),
    granted: undefined,
  })
  assert.deepEqual(seen(peerOf(2, 3), ghost), { reached: B, problems: ['peer.node.missing CiliumNode/node-3'] })
})
