import assert from 'node:assert/strict'
import type { Datapath, IpsecDevice, IpsecPeer, IpsecSettings, IpsecState } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import type { IpsecKey, KeyFingerprint, KeyRef } from '#core/ipsec/key.ts'
import type { DatapathUnderTest } from './datapath.ts'

const BOOT_IDS = ['', '11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222']
const OTHER_BOOT_ID = '33333333-3333-4333-8333-333333333333'
export const KEYS = [gcm(3, 0x33), gcm(4, 0x44)] as const
const [K3, K4] = KEYS

/** What every implementation of the port promises for devices of IPsec; {@link datapathContract} runs it. */
export function ipsecContract(
  contract: (sentence: string, body: (under: DatapathUnderTest) => Promise<void>) => void,
): void {
  contract('ipsec: opening twice gives the same boot id, and no peer', async ({ datapath, device }) => {
    assert.equal(await datapath.observeIpsec(device), undefined)
    const { bootId } = await datapath.openIpsec(settings(device))
    assert.match(bootId, /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/)
    assert.equal((await datapath.openIpsec(settings(device))).bootId, bootId)
    const state = await datapath.observeIpsec(device)
    assert.deepEqual(state, { name: device, bootId, associations: [], peers: [] })
    assert.equal(await datapath.observe(device), undefined, 'it is no device of WireGuard')
  })

  contract('ipsec: associations are what was asked for', async ({ datapath, device }) => {
    const { bootId } = await datapath.openIpsec(settings(device))
    const peers = [peer(1, [K3, K4], K3), peer(2, [K3], undefined)]
    await datapath.applyIpsec(deviceOf(device, bootId, peers))
    assert.deepEqual(await summary(datapath, device), [
      'in node-1 3 192.0.2.1>192.0.2.100',
      'in node-1 4 192.0.2.1>192.0.2.100',
      'in node-2 3 192.0.2.2>192.0.2.100',
      'out node-1 3 192.0.2.100>192.0.2.1',
    ])
    const state = await datapath.observeIpsec(device)
    assert.deepEqual(state?.peers.map(({ node, heard }) => ({ node, heard })).sort(byNode), [
      { node: 'node-1', heard: false },
      { node: 'node-2', heard: false },
    ])
    const fingerprints = state?.associations.map(({ fingerprint }) => fingerprint) ?? []
    assert.equal(new Set(fingerprints).size, 4, 'each direction of each pair has a key of its own')
    for (const one of state?.associations ?? []) {
      assert.equal(one.algorithm, 'rfc4106(gcm(aes))')
      assert.equal(one.encapsulation, 'udp')
      assert.match(one.fingerprint, /^[0-9a-f]{16}$/)
      assert.ok(!KEYS.some(({ fingerprint }) => fingerprint === one.fingerprint))
    }
  })

  contract('ipsec: the same again changes nothing', async ({ datapath, device }) => {
    const { bootId } = await datapath.openIpsec(settings(device))
    const wanted = deviceOf(device, bootId, [peer(1, [K3], undefined), peer(2, [K3, K4], undefined)])
    await datapath.applyIpsec(wanted)
    const before = await datapath.observeIpsec(device)
    await datapath.applyIpsec(wanted)
    assert.deepEqual(await datapath.observeIpsec(device), before)
  })

  contract('ipsec: a rotation, step by step, keeps what is not named', async ({ datapath, device }) => {
    const { bootId } = await datapath.openIpsec(settings(device))
    const fingerprints = new Map<string, string>()
    const steps: [receive: readonly IpsecKey[], send: IpsecKey, wanted: string[]][] = [
      [[K3], K3, ['in 3', 'out 3']],
      [[K3, K4], K3, ['in 3', 'in 4', 'out 3']],
      [[K3, K4], K4, ['in 3', 'in 4', 'out 4']],
      [[K4], K4, ['in 4', 'out 4']],
    ]
    for (const [receive, send, wanted] of steps) {
      await datapath.applyIpsec(deviceOf(device, bootId, [peer(1, receive, send)]))
      const state = await datapath.observeIpsec(device)
      assert.deepEqual(state?.associations.map(({ direction, spi }) => `${direction} ${spi}`).sort(), wanted)
      for (const { direction, spi, fingerprint } of state?.associations ?? []) {
        const known = fingerprints.get(`${direction} ${spi}`) ?? fingerprint
        assert.equal(fingerprint, known, `${direction} ${spi} has kept its key`)
        fingerprints.set(`${direction} ${spi}`, fingerprint)
      }
    }
  })

  contract('ipsec: a peer with another boot id begins anew, the others stay', async ({ datapath, device }) => {
    const { bootId } = await datapath.openIpsec(settings(device))
    const [one, two] = [peer(1, [K3], K3), peer(2, [K3], K3)]
    await datapath.applyIpsec(deviceOf(device, bootId, [one, two]))
    const before = await fingerprintsOf(datapath, device)
    await datapath.applyIpsec(deviceOf(device, bootId, [{ ...one, bootId: OTHER_BOOT_ID }, two]))
    const after = await fingerprintsOf(datapath, device)
    assert.deepEqual(Object.keys(after), Object.keys(before))
    for (const [name, fingerprint] of Object.entries(after)) {
      const same = fingerprint === before[name]
      assert.equal(same, name.includes('node-2'), name)
    }
    assert.ok((await datapath.observeIpsec(device))?.peers.every(({ heard }) => !heard))
  })

  contract('ipsec: prefixes move between peers, peers come and go', async ({ datapath, device }) => {
    const { bootId } = await datapath.openIpsec(settings(device))
    const extra = requireCidr('10.9.0.0/24', 'test')
    const [one, two] = [peer(1, [K3], K3), peer(2, [K3], K3)]
    await datapath.applyIpsec(deviceOf(device, bootId, [{ ...one, allowedIps: [...one.allowedIps, extra] }, two]))
    await datapath.applyIpsec(deviceOf(device, bootId, [one, { ...two, allowedIps: [...two.allowedIps, extra] }]))
    await datapath.applyIpsec(deviceOf(device, bootId, [{ ...two, allowedIps: [...one.allowedIps, extra] }]))
    assert.deepEqual(await summary(datapath, device), [
      'in node-2 3 192.0.2.2>192.0.2.100',
      'out node-2 3 192.0.2.100>192.0.2.2',
    ])
    await datapath.applyIpsec(deviceOf(device, bootId, []))
    assert.deepEqual(await datapath.observeIpsec(device), { name: device, bootId, associations: [], peers: [] })
  })

  contract('ipsec: a boot id that is not the device`s own is refused', async ({ datapath, device }) => {
    const { bootId } = await datapath.openIpsec(settings(device))
    await datapath.applyIpsec(deviceOf(device, bootId, [peer(1, [K3], K3)]))
    const before = resting(await datapath.observeIpsec(device))
    const foreign = deviceOf(device, OTHER_BOOT_ID, [peer(1, [K3], K3)])
    await assert.rejects(datapath.applyIpsec(foreign), { code: 'datapath.boot-id' })
    assert.deepEqual(resting(await datapath.observeIpsec(device)), before)
  })

  contract('ipsec: an unknown algorithm is refused with those that there are, keys stay unsaid', async (under) => {
    const { datapath, device } = under
    const { bootId } = await datapath.openIpsec(settings(device))
    const odd = { ...K4, encryptionAlgorithm: 'ecb(cipher_null)' }
    const failures = [
      { ...deviceOf(device, bootId, [peer(1, [odd], odd)]), keys: [odd] },
      { ...deviceOf(device, bootId, [peer(1, [K4], K4)]), keys: [K3] },
    ].map((wanted) =>
      datapath.applyIpsec(wanted).then(
        () => assert.fail('not refused'),
        (error: unknown) => error,
      ),
    )
    const [unknown, missing] = await Promise.all(failures)
    assert.ok(unknown instanceof Fault && missing instanceof Fault)
    assert.match(unknown.message, /ecb\(cipher_null\)/)
    assert.match(`${unknown.message} ${unknown.remedy ?? ''}`, /rfc4106\(gcm\(aes\)\)/)
    for (const fault of [unknown, missing]) {
      assert.doesNotMatch(`${fault.message} ${fault.field} ${fault.remedy} ${fault.stack}`, /(44){4}|(33){4}/)
    }
  })

  contract('ipsec: removal ends it, and what is made again has another boot id', async ({ datapath, device }) => {
    const { bootId } = await datapath.openIpsec(settings(device))
    await datapath.applyIpsec(deviceOf(device, bootId, [peer(1, [K3], K3)]))
    await datapath.remove(device)
    assert.equal(await datapath.observeIpsec(device), undefined)
    await datapath.remove(device)
    const again = await datapath.openIpsec(settings(device))
    assert.notEqual(again.bootId, bootId)
    assert.deepEqual((await datapath.observeIpsec(device))?.associations, [])
  })
}

export function settings(name: string): IpsecSettings {
  return { name, mtu: 1400, mark: 0xe00, udpPort: 45_099 }
}

export function deviceOf(name: string, bootId: string, peers: readonly IpsecPeer[]): IpsecDevice {
  return { ...settings(name), bootId, peers, keys: KEYS }
}

export function peer(index: 1 | 2, receive: readonly IpsecKey[], send: IpsecKey | undefined): IpsecPeer {
  return {
    node: `node-${index}`,
    bootId: BOOT_IDS[index] ?? '',
    source: requireIp('192.0.2.100', 'test'),
    destination: requireIp(`192.0.2.${index}`, 'test'),
    encapsulation: 'udp',
    allowedIps: [requireCidr(`10.${index}.0.0/24`, 'test')],
    receive: receive.map(refOf),
    send: send === undefined ? undefined : refOf(send),
  }
}

function refOf({ id, fingerprint }: IpsecKey): KeyRef {
  return { id, fingerprint }
}

function gcm(id: number, byte: number): IpsecKey {
  return {
    id,
    fingerprint: `a${id}`.repeat(8) as KeyFingerprint,
    encryptionAlgorithm: 'rfc4106(gcm(aes))',
    encryptionKey: new Uint8Array(20).fill(byte),
    authenticationAlgorithm: undefined,
    authenticationKey: new Uint8Array(0),
    icvBytes: 16,
  }
}

async function summary(datapath: Datapath, device: string): Promise<string[]> {
  const state = await datapath.observeIpsec(device)
  const lines = state?.associations.map(
    ({ direction, node, spi, source, destination }) => `${direction} ${node} ${spi} ${source}>${destination}`,
  )
  return lines?.sort() ?? []
}

async function fingerprintsOf(datapath: Datapath, device: string): Promise<Record<string, string>> {
  const state = await datapath.observeIpsec(device)
  const entries = state?.associations.map(({ direction, node, spi, fingerprint }) => [
    `${direction} ${node} ${spi}`,
    fingerprint,
  ])
  return Object.fromEntries(entries?.sort() ?? [])
}

/** Without what counts: the peer, which is nobody, is called every second. */
function resting(state: IpsecState | undefined) {
  return state === undefined
    ? undefined
    : {
        ...state,
        associations: state.associations.map((one) => ({ ...one, sequence: 'any', packets: 'any', bytes: 'any' })),
        peers: state.peers.map((one) => ({ ...one, txBytes: 'any' })),
      }
}

function byNode(a: { node: string | undefined }, b: { node: string | undefined }): number {
  return (a.node ?? '') < (b.node ?? '') ? -1 : 1
}
