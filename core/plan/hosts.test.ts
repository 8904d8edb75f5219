import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CONFIG, ip, keyOf, nodeIpsOf, peerOf, podCidrsOf, snapshotOf } from '#test/kit/snapshots.ts'
import { plan } from './plan.ts'
import type { Peer } from './snapshot.ts'

const config = { encryption: { ...CONFIG.encryption, nodeEncryption: true } }
const grantOf = (n: number, change: Partial<Peer['granted']> = {}) => ({
  podCidrs: podCidrsOf(n),
  nodeIps: Object.values(nodeIpsOf(n)),
  optedOut: false,
  ...change,
})

/** IPv4 addresses that a closed node with `nodeEncryption` never sends to in clear. */
function guarded(...peers: Peer[]): string[] {
  const p = plan(snapshotOf(1, 3, peers, { config }))
  assert.ok(p.usable)
  const body = p.host.tables[0]?.body ?? ''
  assert.match(body, /ip daddr @hosts4 counter name host_would_leave_in_clear drop/)
  const list = /set hosts4 \{ type ipv4_addr;(?: elements = \{ ([^}]*) \};)? \}/.exec(body)
  assert.ok(list)
  return list[1]?.split(', ') ?? []
}

test('whoever cannot be spoken to encrypted, without being opted out, is not spoken to in clear', () => {
  const none = { publicKeyText: undefined, encryptionKey: 0, granted: grantOf(2) }
  for (const [what, peers, expected] of [
    ['no key, which says 0 as well', [peerOf(2, 3, none)], ['172.18.0.4']],
    ['cleaned, nothing announced', [peerOf(2, undefined, { granted: grantOf(2) })], ['172.18.0.4']],
    ['no key at all', [peerOf(2, 3, { publicKeyText: 'nonsense' })], ['172.18.0.4']],
    [
      'a key that another stole',
      [peerOf(2, 3), peerOf(3, 3, { publicKeyText: keyOf(2) })],
      ['172.18.0.4', '172.18.0.5'],
    ],
    ['an address that another has too', [peerOf(2, 3), peerOf(3, 3, { nodeIps: nodeIpsOf(2) })], ['172.18.0.4']],
    ['its Node was deleted', [peerOf(2, 3, { granted: undefined })], ['172.18.0.4']],
    ['an address that its Node has not', [peerOf(2, 3, { nodeIps: { 4: ip('1.1.1.1') }, granted: grantOf(2) })], []],
  ] as [string, Peer[], string[]][]) {
    assert.deepEqual(guarded(...peers), expected, what)
  }
})

test('the opted-out control plane is reached in clear: also without its key, and whoever claims its address', () => {
  const lost = { publicKeyText: undefined, encryptionKey: 0, granted: grantOf(2, { optedOut: true }) }
  assert.deepEqual(guarded(peerOf(2, 3, lost)), [])
  assert.deepEqual(guarded(peerOf(2, 3, { encryptionKey: 0 })), [], 'it says so itself')
  const thief = peerOf(3, 3, { nodeIps: nodeIpsOf(2) })
  assert.deepEqual(guarded(peerOf(2, 3, { encryptionKey: 0 }), thief), [])
  assert.deepEqual(guarded(peerOf(2, 3, lost), thief), [])
  assert.deepEqual(guarded(peerOf(3, 3, { nodeIps: nodeIpsOf(1) })), [], 'nor this node itself')
})
