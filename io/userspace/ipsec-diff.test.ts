import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DumpedAssociation } from '#core/engine/association.ts'
import { requireIp } from '#core/ip/address.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { diffIpsec, type WantedPeer } from './ipsec-diff.ts'

const OWN = requireIp('172.18.0.1', 'test')
const identityOf = (n: number) =>
  publicKeyOf(
    new Uint8Array(32)
      .fill(1)
      .with(0, n & 255)
      .with(1, n >> 8),
  )
const addressOf = (n: number) => requireIp(`172.${20 + (n >> 8)}.${n & 255}.1`, 'test')

function wantedPeer(n: number): WantedPeer {
  const fingerprint = n.toString(16).padStart(16, '0')
  const outer = { source: addressOf(n), destination: OWN }
  const keys = () => assert.fail('nothing is derived where nothing is missing')
  return {
    identity: identityOf(n),
    node: `node-${n}`,
    destination: addressOf(n),
    encapsulation: 'udp',
    allowedIps: [],
    receive: [{ spi: 3, outer, fingerprint, keys }],
    send: undefined,
  }
}

test('what there is is looked through once, not once for each peer', () => {
  const count = 1000
  const wanted = Array.from({ length: count }, (_, n) => wantedPeer(n))
  let looks = 0
  const associations = wanted.map(({ receive: [one], destination }, peer) => {
    const association = { direction: 'in', spi: 3, outer: { source: destination, destination: OWN }, ...one }
    // counted: whose it is
    return Object.defineProperty(association, 'peer', { get: () => (looks++, peer) }) as unknown as DumpedAssociation
  })
  const peers = wanted.map(({ identity }, peer) => ({ peer, publicKey: identity }))
  const change = diffIpsec(wanted, { peers, allowed: [], associations }, { maxPeers: count, udpPort: 4500 })
  assert.deepEqual([change.receive, change.send, change.remove], [[], [], []])
  assert.ok(looks < 10 * count, `${looks} looks at ${count} associations`)
})
