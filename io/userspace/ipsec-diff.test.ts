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
  assert.deepEqual([change.makeRoom, change.receive, change.send, change.remove], [[], [], [], []])
  assert.ok(looks < 10 * count, `${looks} looks at ${count} associations`)
})

test('what is left of changes that were cut short goes first where it is in the way', () => {
  const to = (last: number, spi: number) => ({
    spi,
    outer: { source: requireIp(`172.20.0.${last}`, 'test'), destination: OWN },
    fingerprint: `${last}`.repeat(15) + spi,
    keys: () =>
      ({ algorithm: 'aes-gcm', icv: 16, encryption: new Uint8Array(20), authentication: new Uint8Array() }) as const,
  })
  const there = (last: number, spi: number) =>
    ({ direction: 'in', peer: 0, encapsulation: 'none', ...to(last, spi) }) as unknown as DumpedAssociation
  const peer: WantedPeer = {
    ...wantedPeer(3),
    destination: requireIp('172.20.0.3', 'test'),
    receive: [to(3, 3), to(3, 4)],
  }
  const changeOf = (...associations: DumpedAssociation[]) => {
    const peers = [{ peer: 0, publicKey: peer.identity }]
    const change = diffIpsec([peer], { peers, allowed: [], associations }, { maxPeers: 4, udpPort: 4500 })
    const name = (request: object) => ('fingerprint' in request ? String(request.fingerprint).slice(-2) : '')
    return [change.makeRoom.map(name), change.receive.map(({ op }) => op), change.remove.map(name)]
  }
  // an address and another, two keys each, and now a third address
  assert.deepEqual(changeOf(there(1, 3), there(1, 4), there(2, 3), there(2, 4)), [
    ['13', '14'],
    ['setReceiving', 'setReceiving'],
    ['23', '24'],
  ])
  // what the peer may still send by stays as long as it can
  assert.deepEqual(changeOf(there(3, 2), there(1, 3), there(1, 4), there(3, 3)), [
    ['13'],
    ['setReceiving'],
    ['32', '14'],
  ])
  assert.deepEqual(changeOf(there(2, 3), there(2, 4)), [[], ['setReceiving', 'setReceiving'], ['23', '24']])
})
