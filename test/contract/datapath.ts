import assert from 'node:assert/strict'
import { suite, type TestContext, test } from 'node:test'
import type { Datapath, WireguardDevice, WireguardPeer, WireguardState } from '#core/datapath/datapath.ts'
import { requireIp } from '#core/ip/address.ts'
import { type Cidr, requireCidr } from '#core/ip/cidr.ts'
import { type PublicKey, publicKeyOf } from '#core/wireguard/key.ts'
import { ipsecContract } from './ipsec-datapath.ts'

/** What the suite runs against: a datapath of one's own, and the way to end it. */
export interface DatapathUnderTest {
  readonly datapath: Datapath
  /** Unique to this run. */
  readonly device: string
  end(): Promise<void>
}

/**
 * What every implementation of the datapath port promises. `make` returns a sentence instead when the machine lacks
 * something: then every test is skipped with it. `withoutIpsec`: why an implementation that has only WireGuard skips the rest.
 */
export function datapathContract(
  name: string,
  make: () => Promise<DatapathUnderTest | string>,
  withoutIpsec?: string,
): void {
  const contract = (sentence: string, body: (under: DatapathUnderTest) => Promise<void>) =>
    test(sentence, async (t: TestContext) => {
      const under = await make()
      if (typeof under === 'string') return t.skip(under)
      try {
        await body(under)
      } finally {
        await under.datapath.remove(under.device).catch(() => undefined)
        await under.datapath.close()
        await under.end()
      }
    })

  suite(`datapath contract: ${name}`, () => {
    contract('it is usable, and there is no device before one is made', async ({ datapath, device }) => {
      assert.deepEqual(await datapath.probe(), { usable: true })
      assert.equal(await datapath.observe(device), undefined)
      await datapath.remove(device)
    })

    contract('a device is what was asked for', async ({ datapath, device }) => {
      await datapath.apply(deviceOf(device, [peer(1, ['10.1.0.0/24', 'fd01::/64']), peer(2, ['10.2.0.0/24'])]))
      const state = await datapath.observe(device)
      assert.equal(state?.name, device)
      assert.equal(state?.listenPort, 51899)
      // the public half of 32 bytes 0x77, clamped or not
      assert.match(state?.publicKey ?? '', /^[A-Za-z0-9+/]{43}=$/)
      assert.deepEqual(await allowed(datapath, device), {
        [keyOf(1)]: ['10.1.0.0/24', 'fd01::/64'],
        [keyOf(2)]: ['10.2.0.0/24'],
      })
      const one = state?.peers.find(({ publicKey }) => publicKey === keyOf(1))
      assert.deepEqual(one?.endpoint, { ip: '192.0.2.1', port: 51871 })
      assert.equal(one?.lastHandshake, undefined)
    })

    contract('the same again changes nothing', async ({ datapath, device }) => {
      const wanted = deviceOf(device, [peer(1, ['10.1.0.0/24'])])
      await datapath.apply(wanted)
      const before = settled(await datapath.observe(device))
      await datapath.apply(wanted)
      assert.deepEqual(settled(await datapath.observe(device)), before)
    })

    contract('what it counts are numbers from 0', async ({ datapath, device }) => {
      await datapath.apply(deviceOf(device, [peer(1, ['10.1.0.0/24'])]))
      for (const [name, count] of Object.entries(await datapath.counters(device))) {
        assert.ok(Number.isInteger(count) && count >= 0, `${name} ${count}`)
      }
    })

    contract('an allowed IP moves to another peer in one call, and comes back', async ({ datapath, device }) => {
      const there = [peer(1, ['10.1.0.0/24', '10.9.0.0/24']), peer(2, ['10.2.0.0/24'])]
      const back = [peer(1, ['10.1.0.0/24']), peer(2, ['10.2.0.0/24', '10.9.0.0/24'])]
      for (const peers of [there, back, there]) {
        await datapath.apply(deviceOf(device, peers))
        assert.deepEqual(
          await allowed(datapath, device),
          Object.fromEntries(peers.map(({ publicKey, allowedIps }) => [publicKey, allowedIps])),
        )
      }
    })

    contract(
      'a peer takes all from one that goes in the same call (a node with a new key)',
      async ({ datapath, device }) => {
        await datapath.apply(deviceOf(device, [peer(1, ['10.1.0.0/24'])]))
        await datapath.apply(deviceOf(device, [peer(3, ['10.1.0.0/24'])]))
        assert.deepEqual(await allowed(datapath, device), { [keyOf(3)]: ['10.1.0.0/24'] })
      },
    )

    contract('an allowed IP that nobody has any more goes, the others stay', async ({ datapath, device }) => {
      await datapath.apply(deviceOf(device, [peer(1, ['10.1.0.0/24', '10.9.0.0/24'])]))
      await datapath.apply(deviceOf(device, [peer(1, ['10.1.0.0/24'])]))
      assert.deepEqual(await allowed(datapath, device), { [keyOf(1)]: ['10.1.0.0/24'] })
      await datapath.apply(deviceOf(device, []))
      assert.deepEqual(await allowed(datapath, device), {})
    })

    contract('endpoint, port and key change without making the device anew', async ({ datapath, device }) => {
      await datapath.apply(deviceOf(device, [peer(1, ['10.1.0.0/24'])]))
      const before = await datapath.observe(device)
      const moved = { ...peer(1, ['10.1.0.0/24']), endpoint: { ip: requireIp('2001:db8::7', 'test'), port: 4711 } }
      await datapath.apply({ ...deviceOf(device, [moved]), listenPort: 51898, privateKey: privateKey(0x55) })
      const after = await datapath.observe(device)
      assert.equal(after?.listenPort, 51898)
      assert.notEqual(after?.publicKey, before?.publicKey)
      assert.deepEqual(after?.peers[0]?.endpoint, { ip: '2001:db8::7', port: 4711 })
    })

    contract('removal ends it, twice is fine, and it can be made again', async ({ datapath, device }) => {
      await datapath.apply(deviceOf(device, [peer(1, ['10.1.0.0/24'])]))
      await datapath.remove(device)
      assert.equal(await datapath.observe(device), undefined)
      await datapath.remove(device)
      await datapath.apply(deviceOf(device, []))
      assert.deepEqual((await datapath.observe(device))?.peers, [])
    })

    if (withoutIpsec === undefined) ipsecContract(contract)
    else test('ipsec', { skip: withoutIpsec })
  })
}

function deviceOf(name: string, peers: readonly WireguardPeer[]): WireguardDevice {
  return { name, privateKey: privateKey(0x77), listenPort: 51899, mark: 0xe00, mtu: 1420, peers }
}

/** Clamped (RFC 7748 section 5), so that no implementation has a reason to write other bytes back. */
function privateKey(byte: number): Uint8Array {
  const key = new Uint8Array(32).fill(byte)
  key[0] = byte & 248
  key[31] = (byte & 127) | 64
  return key
}

function keyOf(index: number): PublicKey {
  return publicKeyOf(new Uint8Array(32).fill(index))
}

function peer(index: number, allowedIps: readonly string[]): WireguardPeer {
  return {
    publicKey: keyOf(index),
    endpoint: { ip: requireIp(`192.0.2.${index}`, 'test'), port: 51871 },
    allowedIps: allowedIps.map((text) => requireCidr(text, 'test')),
    persistentKeepalive: 0,
  }
}

async function allowed(datapath: Datapath, device: string): Promise<Record<PublicKey, readonly Cidr[]>> {
  const state = await datapath.observe(device)
  assert.ok(state !== undefined)
  return Object.fromEntries(state.peers.map(({ publicKey, allowedIps }) => [publicKey, [...allowedIps].sort()]))
}

/** Without since when the peer, which is nobody, has not answered: made of two clocks, it moves by a millisecond. */
function settled(state: WireguardState | undefined) {
  return state === undefined
    ? undefined
    : { ...state, peers: state.peers.map((peer) => ({ ...peer, unansweredSince: 'whenever' })) }
}
