import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { IpsecDevice, IpsecPeer } from '#core/datapath/datapath.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import type { IpsecKey, KeyFingerprint } from '#core/ipsec/key.ts'
import { PairDerivation } from '#core/ipsec/pair-derivation.ts'
import { xfrmAlgorithmName, xfrmFingerprint } from '#core/ipsec/xfrm-crypto.ts'
import type { SeenXfrmPolicy } from '#core/netlink/xfrm-policy.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import type { XfrmChange } from './xfrm-client.ts'
import { type ActualState, diffXfrm, SEQUENCE_MARGIN, wipeChanges, type XfrmActual } from './xfrm-diff.ts'
import { XFRM_KEYS } from './xfrm-keys.ts'

const OWN_BOOT = '00000000-0000-4000-8000-000000000000'
const BOOTS = ['11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222']
const ID = 7

/** What the kernel would have after the changes: it refuses what is there already, or is not there. */
class Kernel implements XfrmActual {
  states: ActualState[] = []
  policies: SeenXfrmPolicy[] = []

  take(changes: readonly XfrmChange[]): void {
    for (const change of changes) {
      if (change.do === 'add state') {
        const { crypto, ...rest } = change.state
        assert.ok(this.#state(rest) === undefined, `${rest.source} → ${rest.destination} is there`)
        const use = { bytes: 0n, packets: 0n, added: 1, firstUsed: 0, beforeWindow: 0, replayed: 0, integrityFailed: 0 }
        const known = { fingerprint: xfrmFingerprint(crypto, ipsecHash), algorithm: xfrmAlgorithmName(crypto) }
        this.states.push({ ...rest, ...use, ...known })
      } else if (change.do === 'delete state') {
        const found = this.#state(change.state)
        assert.ok(found)
        this.states = this.states.filter((one) => one !== found)
      } else if (change.do === 'set policy' || change.do === 'delete policy') {
        const { policy } = change
        const id = JSON.stringify([policy.selector, policy.direction])
        this.policies = this.policies.filter((one) => JSON.stringify([one.selector, one.direction]) !== id)
        if (change.do === 'set policy')
          this.policies.push({ ...change.policy, index: 0, bytes: 0n, packets: 0n, added: 1, firstUsed: 0 })
      } else assert.fail(change.do)
    }
  }

  #state({ destination, spi, mark }: Pick<ActualState, 'destination' | 'spi' | 'mark'>) {
    return this.states.find(
      (one) => one.destination === destination && one.spi === spi && one.mark?.value === mark?.value,
    )
  }
}

test('from nothing: what drops, then what receives, then what sends; the same again is nothing', () => {
  const kernel = new Kernel()
  const wanted = device([peer(1, [3], 3), peer(2, [3], undefined)])
  const diff = diffOf(kernel, wanted)
  assert.deepEqual(
    diff.receive.slice(0, 6).map((change) => 'policy' in change && 'action' in change.policy && change.policy.action),
    Array.from({ length: 6 }, () => 'block'),
  )
  assert.ok(
    diff.receive.every((change) => !('policy' in change) || change.policy.direction !== 'out' || isBlock(change)),
  )
  assert.deepEqual(kinds(diff.send), ['add state', 'set policy', 'set policy'])
  assert.deepEqual(diff.remove, [])
  kernel.take([...diff.receive, ...diff.send])
  // no template of what receives names an SPI, so that a rotation leaves them alone; what sends names its own
  for (const { direction, templates } of kernel.policies) {
    for (const { spi } of templates) assert.equal(spi, direction === 'out' ? 3 : 0)
  }
  assert.deepEqual([...diff.marksAfter.values()], [0x10d00, 0x20d00])
  const again = diffOf(kernel, wanted)
  assert.deepEqual([again.receive, again.send, again.remove, again.used], [[], [], [], []])
})

test('a rotation changes the policy that sends in one step, and takes nothing away before', () => {
  const kernel = new Kernel()
  bringAbout(kernel, device([peer(1, [3], 3)]))
  const both = diffOf(kernel, device([peer(1, [3, 4], 3)]))
  assert.deepEqual([kinds(both.receive), kinds(both.send), kinds(both.remove)], [['add state'], [], []])
  bringAbout(kernel, device([peer(1, [3, 4], 3)]))
  advance(kernel, 5000n)
  const turned = diffOf(kernel, device([peer(1, [3, 4], 4)]))
  assert.deepEqual(kinds(turned.receive), [])
  assert.deepEqual(kinds(turned.send), ['add state', 'set policy', 'set policy'])
  assert.deepEqual(kinds(turned.remove), ['delete state'])
  assert.deepEqual([...turned.spent.values()], [5000n + SEQUENCE_MARGIN])
})

test('another boot id: the states of that peer alone are replaced', () => {
  const kernel = new Kernel()
  bringAbout(kernel, device([peer(1, [3], 3), peer(2, [3], 3)]))
  const before = kernel.states.map(({ fingerprint }) => fingerprint)
  const diff = diffOf(kernel, device([{ ...peer(1, [3], 3), bootId: BOOTS[1] as string }, peer(2, [3], 3)]))
  assert.deepEqual(kinds(diff.receive), ['delete state', 'add state'])
  assert.deepEqual(kinds(diff.send), ['delete state', 'add state'])
  kernel.take([...diff.receive, ...diff.send, ...diff.remove])
  assert.equal(kernel.states.filter(({ fingerprint }) => before.includes(fingerprint)).length, 2)
})

test('the same key by another id goes on beyond where the first one is', () => {
  const kernel = new Kernel()
  bringAbout(kernel, device([peer(1, [3], 3)]))
  advance(kernel, 77n)
  const keys = [key(3, 0x33), key(4, 0x33)]
  const diff = diffOf(kernel, { ...device([peer(1, [3, 4], 4)]), keys })
  const [added] = diff.send
  assert.ok(added?.do === 'add state')
  assert.equal(added.state.replay.sent, 77n + SEQUENCE_MARGIN)
  // it is in use: nothing may say that it ended
  assert.equal(diff.spent.size, 0)
})

test('a key that comes back goes on beyond where it was left, and is refused when nobody knows where', () => {
  const kernel = new Kernel()
  bringAbout(kernel, device([peer(1, [3], 3)]))
  const wanted = device([peer(1, [3], 3)])
  const [sending] = kernel.states.filter(({ mark }) => mark === undefined)
  kernel.states = kernel.states.filter((one) => one !== sending)
  const on = diffOf(kernel, wanted, (fingerprint) => (fingerprint === sending?.fingerprint ? 4711n : undefined))
  assert.ok(on.send[0]?.do === 'add state')
  assert.equal(on.send[0].state.replay.sent, 4711n)
  assert.throws(() => diffOf(kernel, wanted, () => 'used'), { code: 'datapath.boot-id' })
})

test('a state that receives again refuses what had come', () => {
  const kernel = new Kernel()
  bringAbout(kernel, device([peer(1, [3], 3)]))
  kernel.states = kernel.states.map((one) =>
    one.mark === undefined ? one : { ...one, replay: { ...one.replay, received: 99n } },
  )
  const [receiving] = kernel.states.filter(({ mark }) => mark !== undefined)
  const flushed = diffOf(kernel, device([]))
  assert.equal(flushed.spent.get(receiving?.fingerprint ?? ''), 99n)
  bringAbout(kernel, device([]))
  const [added] = diffOf(kernel, device([peer(1, [3], undefined)]), (key) => flushed.spent.get(key)).receive.filter(
    (change) => change.do === 'add state',
  )
  assert.ok(added)
  assert.equal(added.state.replay.received, 99n)
  assert.equal(added.state.replay.bitmap?.length, 32)
  assert.ok(added.state.replay.bitmap.every((word) => word === 0xffffffff))
})

test('peers keep their mark whoever comes and goes, and what is gone leaves nothing but what drops', () => {
  const kernel = new Kernel()
  bringAbout(kernel, device([peer(1, [3], 3), peer(2, [3], 3)]))
  const diff = diffOf(kernel, device([peer(2, [3], 3)]))
  assert.deepEqual([...diff.marksAfter], [['192.0.2.2', 0x20d00]])
  assert.equal(diff.marksBefore.get(requireIp('192.0.2.1', 'test')), 0x10d00)
  bringAbout(kernel, device([peer(2, [3], 3)]))
  bringAbout(kernel, device([]))
  assert.deepEqual(kernel.states, [])
  assert.ok(kernel.policies.length === 6 && kernel.policies.every(({ action }) => action === 'block'))
})

test('what somebody changed is put right, and nothing else', () => {
  const kernel = new Kernel()
  const wanted = device([peer(1, [3], 3)])
  bringAbout(kernel, wanted)
  const [first, ...others] = kernel.policies.filter(({ direction, action }) => direction === 'in' && action === 'allow')
  assert.ok(first)
  const [template] = first.templates
  assert.ok(template)
  // without a required template everything would be let in
  kernel.policies = kernel.policies.map((one) =>
    one === first ? { ...one, templates: [{ ...template, optional: true }] } : one,
  )
  const diff = diffOf(kernel, wanted)
  assert.deepEqual([kinds(diff.receive), kinds(diff.send), kinds(diff.remove)], [['set policy'], [], []])
  assert.equal(others.length, 1)
})

function bringAbout(kernel: Kernel, wanted: IpsecDevice): void {
  const { receive, send, remove } = diffOf(kernel, wanted)
  for (const part of [receive, send, remove]) kernel.take(part)
  for (const part of [receive, send, remove]) wipeChanges(part)
}

function diffOf(
  kernel: XfrmActual,
  wanted: IpsecDevice,
  spent: (f: string) => bigint | 'used' | undefined = () => undefined,
) {
  const { mark, udpPort } = wanted
  return diffXfrm(new PairDerivation(XFRM_KEYS).wanted(wanted), kernel, { interfaceId: ID, mark, udpPort, spent })
}

function advance(kernel: Kernel, sent: bigint): void {
  kernel.states = kernel.states.map((one) =>
    one.mark === undefined ? { ...one, replay: { ...one.replay, sent } } : one,
  )
}

function kinds(changes: readonly XfrmChange[]): string[] {
  return changes.map((change) => change.do)
}

function isBlock(change: XfrmChange): boolean {
  return change.do === 'set policy' && change.policy.action === 'block'
}

function device(peers: readonly IpsecPeer[]): IpsecDevice {
  const keys = [key(3, 0x33), key(4, 0x44)]
  return { name: 'test', mtu: 1400, mark: 0xe00, udpPort: 4500, bootId: OWN_BOOT, peers, keys }
}

function peer(index: 1 | 2, receive: readonly number[], send: number | undefined): IpsecPeer {
  return {
    node: `node-${index}`,
    bootId: BOOTS[0] as string,
    source: requireIp('192.0.2.100', 'test'),
    destination: requireIp(`192.0.2.${index}`, 'test'),
    encapsulation: 'none',
    allowedIps: [requireCidr(`10.${index}.0.0/24`, 'test'), requireCidr(`fd0${index}::/64`, 'test')],
    receive: receive.map(refOf),
    send: send === undefined ? undefined : refOf(send),
  }
}

function refOf(id: number) {
  return { id, fingerprint: `a${id}`.repeat(8) as KeyFingerprint }
}

function key(id: number, byte: number): IpsecKey {
  return {
    ...refOf(id),
    encryptionAlgorithm: 'rfc4106(gcm(aes))',
    encryptionKey: new Uint8Array(20).fill(byte),
    authenticationAlgorithm: undefined,
    authenticationKey: new Uint8Array(0),
    icvBytes: 16,
  }
}
