import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { IpsecDevice, IpsecPeer } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import type { IpsecKey, KeyFingerprint } from '#core/ipsec/key.ts'
import type { FakeIpsecEngine } from '#test/kit/fake-ipsec-engine.ts'
import { FakeNodeRuntime } from '#test/kit/fake-node-runtime.ts'
import { UserspaceDatapath } from './datapath.ts'

const NAME = 'pa_ipsec'
const SETTINGS = { name: NAME, mtu: 1400, mark: 0xe00, udpPort: 4500 }
const BOOT_ID = '11111111-1111-4111-8111-111111111111'
const key = (id: number): IpsecKey => ({
  id,
  fingerprint: `b${id}`.repeat(8) as KeyFingerprint,
  encryptionAlgorithm: 'rfc4106(gcm(aes))',
  encryptionKey: new Uint8Array(20).fill(id),
  authenticationAlgorithm: undefined,
  authenticationKey: new Uint8Array(0),
  icvBytes: 16,
})
const [K3, K4] = [key(3), key(4)]
const peer = (index: number, fields: Partial<IpsecPeer> = {}): IpsecPeer => ({
  node: `node-${index}`,
  bootId: BOOT_ID,
  source: requireIp('192.0.2.100', 'test'),
  destination: requireIp(`192.0.2.${index}`, 'test'),
  encapsulation: 'udp',
  allowedIps: [requireCidr(`10.${index}.0.0/24`, 'test')],
  receive: [K3],
  send: K3,
  ...fields,
})

interface Under {
  readonly runtime: FakeNodeRuntime
  /** What it applies, with the device's own boot id. */
  readonly apply: (...peers: IpsecPeer[]) => Promise<void>
  readonly datapath: UserspaceDatapath
  /** An agent that begins anew. */
  readonly again: () => UserspaceDatapath
  readonly engine: () => FakeIpsecEngine
  readonly changes: () => number
}

async function withEngine(body: (under: Under) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'pa-ipsec-'))
  const runtime = new FakeNodeRuntime(folder)
  await runtime.start()
  let changed = 0
  const made: UserspaceDatapath[] = []
  const again = () => {
    const { supervisorSocket, controlFolder } = runtime
    const datapath = new UserspaceDatapath({
      supervisorSocket,
      controlFolder,
      timeoutMs: 5000,
      changed: () => void changed++,
    })
    made.push(datapath)
    return datapath
  }
  const datapath = again()
  const engine = () => runtime.engines.get(NAME) ?? assert.fail('no engine')
  const apply = async (...peers: IpsecPeer[]) => {
    const { bootId } = await datapath.openIpsec(SETTINGS)
    await datapath.applyIpsec(deviceOf(bootId, peers))
  }
  try {
    await body({ runtime, datapath, again, engine, apply, changes: () => changed })
  } finally {
    for (const one of made) await one.close()
    await runtime.stop()
    await rm(folder, { recursive: true })
  }
}

const deviceOf = (bootId: string, peers: IpsecPeer[]): IpsecDevice => ({ ...SETTINGS, bootId, peers, keys: [K3, K4] })
const LIMIT = { timeout: 20_000 }

test('receive, then send, then removal', LIMIT, () =>
  withEngine(async ({ apply, engine }) => {
    await apply(peer(1))
    engine().requests.splice(0)
    const both = { receive: [K3, K4] }
    await apply(peer(1, both), peer(2, both))
    await apply(peer(1, { receive: [K4], send: K4 }), peer(2, { receive: [K3, K4], send: K4 }))
    const done = engine().requests.map((request) =>
      'spi' in request ? `${request.op} ${request.peer} ${request.spi}` : request.op,
    )
    assert.deepEqual(
      done.join(', '),
      'setPeer, allow, setReceiving 0 4, setReceiving 1 3, setReceiving 1 4, setSending 1 3, ' +
        'setSending 0 4, setSending 1 4, removeAssociation 0 3, removeAssociation 0 3, removeAssociation 1 3',
    )
    assert.deepEqual(
      engine()
        .requests.filter(({ op }) => op === 'removeAssociation')
        .map((request) => ('direction' in request ? request.direction : '')),
      ['in', 'out', 'out'],
    )
  }),
)

test('an agent that begins anew takes over what is there', LIMIT, () =>
  withEngine(async ({ apply, again, engine }) => {
    await apply(peer(1), peer(2))
    engine().hear(0)
    const before = engine().requests.length
    const second = again()
    const { bootId } = await second.openIpsec(SETTINGS)
    const unnamed = await second.observeIpsec(NAME)
    assert.deepEqual(
      unnamed?.peers.map(({ node, heard }) => [node, heard]),
      [
        [undefined, true],
        [undefined, false],
      ],
    )
    await second.applyIpsec(deviceOf(bootId, [peer(2), peer(1)]))
    assert.equal(engine().requests.length, before)
    const named = await second.observeIpsec(NAME)
    assert.deepEqual(
      named?.peers.map(({ node, heard }) => [node, heard]),
      [
        ['node-1', true],
        ['node-2', false],
      ],
    )
  }),
)

test('a node with another boot id, or another name, has the slot that its address had', LIMIT, () =>
  withEngine(async ({ apply, engine }) => {
    await apply(peer(1), peer(2))
    engine().hear(1)
    engine().requests.splice(0)
    await apply(peer(1), peer(2, { bootId: '22222222-2222-4222-8222-222222222222' }))
    assert.deepEqual(
      engine().requests.map((request) => ('peer' in request ? `${request.op} ${request.peer}` : request.op)),
      ['setPeer 1', 'allow 1', 'setReceiving 1', 'setSending 1'],
    )
    assert.equal(engine().heard.has(1), false)
    engine().requests.splice(0)
    await apply(peer(1), peer(2, { node: 'node-9' }))
    assert.deepEqual(
      engine().requests.map((request) => ('peer' in request ? request.peer : undefined)),
      [1, 1, 1, 1],
    )
  }),
)

test('an engine that is started again is told', LIMIT, () =>
  withEngine(async ({ apply, engine, changes }) => {
    await apply(peer(1))
    assert.equal(changes(), 0)
    engine().restart()
    await apply(peer(1), peer(2))
    assert.equal(changes(), 1)
  }),
)

test('what is refused for one peer is done for the others, and nothing of that peer is taken away', LIMIT, () =>
  withEngine(async ({ apply, engine, datapath }) => {
    await apply(peer(1), peer(2), peer(3))
    const newer = { receive: [K4], send: K4 }
    const of = async () =>
      (await datapath.observeIpsec(NAME))?.associations.map(({ direction, node, spi }) => `${node} ${direction} ${spi}`)
    for (const [op, node1] of [
      ['setReceiving', ['node-1 in 3', 'node-1 out 3']],
      ['setSending', ['node-1 in 3', 'node-1 in 4', 'node-1 out 3']],
    ] as const) {
      engine().refuse = (request) => request.op === op && request.peer === 0
      const refused = apply(peer(1, newer), peer(2, newer), peer(3, newer))
      await assert.rejects(refused, {
        code: 'datapath.full',
        message: `the engine refused ${op} for node node-1 (full)`,
      })
      const others = [2, 3].flatMap((n) => [`node-${n} in 4`, `node-${n} out 4`])
      assert.deepEqual((await of())?.toSorted(), [...node1, ...others])
    }
    engine().refuse = () => false
    await apply(peer(1, newer), peer(2, newer), peer(3, newer))
    assert.deepEqual((await of())?.length, 6)
  }),
)

test('memory that has no room for more keys is renewed in time, again and again', LIMIT, () =>
  withEngine(async ({ apply, engine, runtime, datapath, changes }) => {
    let renewals = 0
    for (let boot = 0; boot < 150; boot++) {
      const bootId = `22222222-2222-4222-8222-${boot.toString(16).padStart(12, '0')}`
      const before = (await datapath.openIpsec(SETTINGS)).bootId
      // two keys each time: never refused
      await apply(peer(1, { bootId }))
      const after = (await datapath.openIpsec(SETTINGS)).bootId
      if (after !== before) renewals++
    }
    assert.ok(renewals > 1 && renewals < 5, `${renewals}`)
    assert.equal(changes(), renewals, 'and the agent is told each time')
    // a supervisor of an earlier release cannot: it goes on for as long as there is room
    runtime.renews = false
    const name = (n: number) => `33333333-3333-4333-8333-${n.toString(16).padStart(12, '0')}`
    await assert.rejects(
      async () => {
        for (let boot = 0; boot < 300; boot++) await apply(peer(1, { bootId: name(boot) }))
      },
      (fault: unknown) =>
        fault instanceof Fault && /delete pod/.test(fault.remedy ?? '') && fault.code === 'datapath.full',
    )
    assert.equal(engine().usedKeys[0], 128)
    runtime.renews = true
    // and one that has been full for long is renewed as well
    await assert.rejects(apply(peer(1, { bootId: name(999) })))
    await apply(peer(1, { bootId: name(999) }))
  }),
)

test('changes of address of which the first was cut short do not shut a peer out', LIMIT, () =>
  withEngine(async ({ apply, engine }) => {
    const at = (last: number) =>
      peer(1, { receive: [K3, K4], send: K4, destination: requireIp(`192.0.2.${last}`, 'test') })
    await apply(at(1))
    engine().before = ({ op }) => {
      if (op === 'removeAssociation') engine().restart()
    }
    await assert.rejects(apply(at(2)))
    engine().before = () => undefined
    engine().requests.splice(0)
    await apply(at(3))
    assert.deepEqual(
      engine().requests.map(({ op }) => op),
      [
        'removeAssociation',
        'removeAssociation',
        'setReceiving',
        'setReceiving',
        'setSending',
        'removeAssociation',
        'removeAssociation',
        'removeAssociation',
      ],
    )
  }),
)

test('a memory that is lost in the middle gets no key that was derived under its predecessor', LIMIT, async () => {
  let lost = 0
  for (let at = 1, all = Number.POSITIVE_INFINITY; at <= all; at++) {
    await withEngine(async ({ apply, engine, runtime, datapath }) => {
      await apply(peer(1))
      const { bootId } = await datapath.openIpsec(SETTINGS)
      const former = engine()
      let seen = 0
      former.before = () => {
        if (++seen === at) runtime.loseMemory(NAME)
      }
      const both = { receive: [K3, K4], send: K4 }
      const applied = datapath.applyIpsec(deviceOf(bootId, [peer(1, both), peer(2, both)]))
      const refused = await applied.then(
        () => undefined,
        (error: unknown) => error,
      )
      if (engine() === former) {
        all = at
        assert.equal(refused, undefined)
        return
      }
      lost++
      assert.deepEqual(engine().requests, [], `lost at request ${at}`)
      await apply(peer(1, both))
      assert.ok(engine().requests.some(({ op }) => op === 'setSending'))
    })
  }
  assert.ok(lost > 5, `${lost}`)
})

test('a prefix that nobody has any more goes after all else', LIMIT, () =>
  withEngine(async ({ apply, engine }) => {
    const extra = requireCidr('10.9.0.0/24', 'test')
    await apply(peer(1, { allowedIps: [extra] }), peer(2))
    engine().requests.splice(0)
    await apply(peer(1), peer(2, { allowedIps: [extra] }))
    await apply(peer(1))
    assert.deepEqual(
      engine().requests.map((request) =>
        'prefixes' in request ? [request.op, request.peer, request.prefixes] : request.op,
      ),
      [['allow', 0, ['10.1.0.0/24']], ['allow', 1, ['10.9.0.0/24']], ['disallow', 1, ['10.2.0.0/24']], 'removePeer'],
    )
  }),
)
