import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { WireguardDevice } from '#core/datapath/datapath.ts'
import { requireIp } from '#core/ip/address.ts'
import { type Cidr, requireCidr } from '#core/ip/cidr.ts'
import type { WireguardChange } from '#core/netlink/wireguard-change.ts'
import type { SeenWireguard } from '#core/netlink/wireguard-device.ts'
import { type PublicKey, publicKeyOf } from '#core/wireguard/key.ts'
import { diffWireguard } from './wireguard-diff.ts'

const keyOf = (byte: number) => publicKeyOf(new Uint8Array(32).fill(byte))
const NOBODY = keyOf(255)
const OWN = keyOf(200)
const cidrOf = (n: number) => requireCidr(`10.${n}.0.0/16`, 'test')
const endpointOf = (n: number) => ({ ip: requireIp(`192.0.2.${n}`, 'test'), port: 51871 })

/** What Linux does with a change, peer by peer (drivers/net/wireguard/netlink.c); `watch` sees every state in between. */
function applied(device: SeenWireguard, change: WireguardChange, watch: (peers: Map<PublicKey, Set<Cidr>>) => void) {
  const peers = new Map(device.peers.map(({ publicKey, allowedIps }) => [publicKey, new Set(allowedIps)]))
  for (const peer of change.peers ?? []) {
    if (peer.remove === true) peers.delete(peer.publicKey)
    else if (peer.updateOnly !== true || peers.has(peer.publicKey)) {
      const own = peers.get(peer.publicKey) ?? new Set()
      peers.set(peer.publicKey, own)
      for (const cidr of peer.allowedIps ?? []) {
        for (const other of peers.values()) other.delete(cidr)
        own.add(cidr)
        watch(peers)
      }
    }
    watch(peers)
  }
  return peers
}

/** Which peer has each of some prefixes: disjoint, as the plan makes them. */
const owners = fc.array(fc.nat({ max: 6 }), { minLength: 8, maxLength: 8 }).map((list) => {
  const peers = new Map<number, Cidr[]>()
  for (const [n, owner] of list.entries()) {
    // 0: nobody
    if (owner > 0) peers.set(owner, [...(peers.get(owner) ?? []), cidrOf(n)])
  }
  return peers
})

test('any device becomes any other; a prefix that is there before and after always has a peer', () => {
  fc.assert(
    fc.property(owners, owners, (before, after) => {
      const actual: SeenWireguard = {
        name: 'w',
        index: 1,
        publicKey: OWN,
        listenPort: 1,
        mark: 0xe00,
        peers: [...before].map(([n, allowedIps]) => ({
          publicKey: keyOf(n),
          endpoint: endpointOf(n),
          persistentKeepalive: 0,
          presharedKey: false,
          rxBytes: 0n,
          txBytes: 0n,
          allowedIps,
        })),
      }
      const wanted: WireguardDevice = {
        name: 'w',
        privateKey: new Uint8Array(32),
        listenPort: 1,
        mark: 0xe00,
        mtu: 1420,
        peers: [...after].map(([n, allowedIps]) => ({
          publicKey: keyOf(n),
          endpoint: endpointOf(n),
          allowedIps,
          persistentKeepalive: 0,
        })),
      }
      const change = diffWireguard(wanted, actual, { publicKey: OWN, nobody: NOBODY, endpoints: new Map() })
      const goal = new Map([...after].map(([n, cidrs]) => [keyOf(n), new Set(cidrs)]))
      const stay = [...before.values()].flat().filter((cidr) => [...after.values()].flat().includes(cidr))
      const end =
        change === undefined
          ? new Map([...before].map(([n, cidrs]) => [keyOf(n), new Set(cidrs)]))
          : applied(actual, change, (peers) => {
              for (const cidr of stay)
                assert.ok(
                  [...peers.values()].some((own) => own.has(cidr)),
                  cidr,
                )
            })
      const sorted = (peers: Map<PublicKey, Set<Cidr>>) =>
        [...peers]
          .map(([key, cidrs]) => [key, [...cidrs].sort()])
          .sort((a, b) => (String(a[0]) < String(b[0]) ? -1 : 1))
      assert.deepEqual(sorted(end), sorted(goal))
    }),
    { seed: 11, numRuns: 2000 },
  )
})

const peer = { publicKey: keyOf(1), endpoint: endpointOf(1), allowedIps: [cidrOf(1)], persistentKeepalive: 0 }
const wanted: WireguardDevice = {
  name: 'w',
  privateKey: new Uint8Array(32).fill(7),
  listenPort: 51871,
  mark: 0xe00,
  mtu: 1420,
  peers: [peer],
}
const actual: SeenWireguard = {
  name: 'w',
  index: 1,
  publicKey: OWN,
  listenPort: 51871,
  mark: 0xe00,
  peers: [{ ...peer, presharedKey: false, rxBytes: 1n, txBytes: 1n }],
}
const facts = { publicKey: OWN, nobody: NOBODY, endpoints: new Map() }

test('nothing to do is undefined, and only what differs is said', () => {
  assert.equal(diffWireguard(wanted, actual, facts), undefined)
  assert.deepEqual(diffWireguard({ ...wanted, listenPort: 1, mark: 2 }, actual, facts), {
    name: 'w',
    listenPort: 1,
    mark: 2,
  })
  assert.deepEqual(diffWireguard(wanted, { ...actual, publicKey: keyOf(9) }, facts), {
    name: 'w',
    privateKey: wanted.privateKey,
  })
})

test('a peer that roamed is left where it is, until the cluster announces another place', () => {
  const roamed = { ...actual, peers: actual.peers.map((one) => ({ ...one, endpoint: endpointOf(77) })) }
  const told = { ...facts, endpoints: new Map([[keyOf(1), endpointOf(1)]]) }
  assert.equal(diffWireguard(wanted, roamed, told), undefined)
  assert.deepEqual(diffWireguard({ ...wanted, peers: [{ ...peer, endpoint: endpointOf(5) }] }, roamed, told)?.peers, [
    { publicKey: keyOf(1), endpoint: endpointOf(5), updateOnly: true },
  ])
  assert.ok(diffWireguard(wanted, roamed, facts)?.peers?.length === 1)
})
