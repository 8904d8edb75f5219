import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import type { IpsecKey } from '#core/ipsec/key.ts'
import { EncapSockets } from '#io/kernel/encap-sockets.ts'
import { KernelMonitor } from '#io/kernel/kernel-monitor.ts'
import { inNetworkNamespace } from '#io/kernel/network-namespace.ts'
import { until } from './esp-ends.ts'
import {
  aead,
  answered,
  arrivedInClear,
  DEVICE,
  deviceOf,
  gcm,
  hmac,
  type IpsecNode,
  ip,
  makeNodes,
  openDatapath,
  ping,
  pingArguments,
  removeFolder,
  removeNodes,
  settings,
  unanswered,
} from './ipsec-nodes.ts'
import { drops } from './tunnels.ts'

// The kernel datapath's IPsec between namespaces, with packets, on the guest's real kernel (tools/kernel).

const [K3, K4] = [gcm(3, 0x33), gcm(4, 0x44)]
after(removeFolder)

async function withNodes(count: number, body: (nodes: readonly IpsecNode[]) => Promise<void>): Promise<void> {
  const nodes = await makeNodes(count)
  try {
    await body(nodes)
    for (const node of nodes) assert.equal(arrivedInClear(node), 0, `${node.name} got packets in clear`)
  } finally {
    await removeNodes(nodes)
  }
}

type Outer = Parameters<typeof deviceOf>[4]

/** Every node to all others; nobody is sent to before it receives. */
async function applyAll(nodes: readonly IpsecNode[], receive: readonly IpsecKey[], send: IpsecKey, outer?: Outer) {
  for (const node of nodes) {
    const others = nodes.filter((one) => one !== node)
    const state = await node.datapath.observeIpsec(DEVICE)
    if (state?.associations.some(({ direction }) => direction === 'out') === true) continue
    await node.datapath.applyIpsec(deviceOf(node, others, receive, undefined, outer))
  }
  for (const node of nodes) {
    const others = nodes.filter((one) => one !== node)
    await node.datapath.applyIpsec(deviceOf(node, others, receive, send, outer))
  }
}

/** Calls are over, and with them what they may count at an end that could not answer yet. */
async function allHeard(nodes: readonly IpsecNode[]): Promise<readonly Record<string, number>[]> {
  for (const { name, datapath } of nodes) {
    await until(`${name} has heard the others`, async () => {
      const peers = (await datapath.observeIpsec(DEVICE))?.peers
      return peers?.every(({ heard }) => heard) === true
    })
  }
  return nodes.map((node) => drops(node))
}

for (const encapsulation of ['none', 'udp'] as const) {
  for (const family of [4, 6] as const) {
    const what = encapsulation === 'udp' ? 'ESP in UDP' : 'protocol 50'
    test(`three nodes speak by ${what} over IPv${family}, both families inside, all by one SPI`, async () => {
      await withNodes(3, async (nodes) => {
        const [one, two, three] = nodes as [IpsecNode, IpsecNode, IpsecNode]
        assert.equal(unanswered(one, two), 0, 'before there is a key nothing passes')
        await applyAll(nodes, [K3], K3, { encapsulation, family })
        const before = await allHeard(nodes)
        assert.ok((before[0]?.['XfrmOutPolBlock'] ?? 0) >= 2, 'what was sent before there was a key')
        for (const [from, to] of [
          [one, two],
          [three, one],
        ] as const) {
          for (const inner of [4, 6] as const) assert.equal(ping(from, to, 5, inner), 5, `IPv${inner} inside`)
        }
        assert.deepEqual(nodes.map(drops), before)
        const state = await one.datapath.observeIpsec(DEVICE)
        assert.deepEqual(state?.peers.map(({ node, heard }) => `${node} ${heard}`).sort(), [
          `${two.name} true`,
          `${three.name} true`,
        ])
        assert.equal(state?.associations.length, 4)
        for (const { packets, sequence, algorithm, spi } of state?.associations ?? []) {
          assert.deepEqual([algorithm, spi], ['rfc4106(gcm(aes))', 3])
          // the calls are among them
          assert.ok(packets >= 10n && sequence === packets, `${packets} packets, number ${sequence}`)
        }
        const shown = ip('-n', one.name, 'xfrm', 'state', 'list')
        assert.equal((shown.match(/proto esp spi 0x00000003/g) ?? []).length, 4)
        assert.equal((shown.match(/output-mark 0xe00/g) ?? []).length, 2)
        assert.equal(
          (shown.match(/encap type espinudp sport 4500 dport 4500/g) ?? []).length,
          encapsulation === 'udp' ? 4 : 0,
        )
      })
    })
  }
}

test('a rotation under ping loses nothing, and an agent that begins anew in the middle touches nothing', async () => {
  await withNodes(2, async (nodes) => {
    const [one, two] = nodes as [IpsecNode, IpsecNode]
    await applyAll(nodes, [K3], K3)
    const dropped = await allHeard(nodes)
    const running = promisify(execFile)('ip', pingArguments(one, two, 200))
    await applyAll(nodes, [K3, K4], K3)
    one.datapath.close()
    one.datapath = openDatapath(one.name)
    assert.equal((await one.datapath.openIpsec(settings())).bootId, one.bootId)
    const before = ip('-n', one.name, 'xfrm', 'policy', 'list')
    await applyAll(nodes, [K3, K4], K3)
    assert.equal(ip('-n', one.name, 'xfrm', 'policy', 'list'), before)
    await applyAll(nodes, [K3, K4], K4)
    await applyAll(nodes, [K4], K4)
    const { stdout } = await running
    assert.equal(answered(stdout), 200)
    assert.deepEqual(nodes.map(drops), dropped)
    const state = await one.datapath.observeIpsec(DEVICE)
    assert.deepEqual(state?.associations.map(({ direction, spi }) => `${direction} ${spi}`).sort(), ['in 4', 'out 4'])
  })
})

test('without states nothing leaves in clear; a key whose number is not known any more is never used again', async () => {
  await withNodes(2, async (nodes) => {
    const [one, two] = nodes as [IpsecNode, IpsecNode]
    await applyAll(nodes, [K3], K3)
    assert.equal(ping(one, two, 3), 3)
    ip('-n', one.name, 'xfrm', 'state', 'flush')
    assert.equal(unanswered(one, two), 0)
    // as the agent does when the kernel tells of it
    assert.equal((await one.datapath.openIpsec(settings())).bootId, one.bootId)
    await assert.rejects(one.datapath.applyIpsec(deviceOf(one, [two], [K3], K3)), { code: 'datapath.boot-id' })
    assert.equal(unanswered(one, two), 0)
    const { bootId } = await one.datapath.openIpsec(settings())
    assert.notEqual(bootId, one.bootId)
    one.bootId = bootId
    await applyAll(nodes, [K3], K3)
    assert.equal(ping(one, two, 3), 3)
    // policies gone: the device alone lets nothing out
    ip('-n', one.name, 'xfrm', 'policy', 'flush')
    assert.equal(unanswered(one, two), 0)
    assert.equal((await one.datapath.openIpsec(settings())).bootId, one.bootId)
    await applyAll(nodes, [K3], K3)
    assert.equal(ping(one, two, 3), 3)
  })
})

test('a key that comes back goes on beyond its last number, and the other end takes it', async () => {
  await withNodes(2, async (nodes) => {
    const [one, two] = nodes as [IpsecNode, IpsecNode]
    await applyAll(nodes, [K3, K4], K3)
    const dropped = await allHeard(nodes)
    assert.equal(ping(one, two, 5), 5)
    const sending = async () => {
      const { associations } = (await one.datapath.observeIpsec(DEVICE)) ?? { associations: [] }
      return associations.find(({ direction }) => direction === 'out')
    }
    const before = (await sending())?.sequence ?? 0n
    assert.ok(before >= 5n)
    await applyAll(nodes, [K3, K4], K4)
    await applyAll(nodes, [K3, K4], K3)
    const after = await sending()
    assert.equal(after?.spi, 3)
    // all is taken away and made again (cilium-dbg encrypt flush): what came is refused if it comes once more
    const received = async () =>
      (await two.datapath.observeIpsec(DEVICE))?.associations.find((one) => one.direction === 'in' && one.spi === 3)
        ?.sequence
    const came = await received()
    await two.datapath.applyIpsec(deviceOf(two, [one], [K4], K4))
    await applyAll(nodes, [K3, K4], K3)
    assert.equal(await received(), came)
    assert.ok(after.sequence >= before + (1n << 20n), `${before}, then ${after.sequence}`)
    assert.equal(ping(one, two, 5), 5)
    assert.deepEqual(nodes.map(drops), dropped)
  })
})

test('a peer speaks only as itself; what it decrypts to for another source is dropped and counted', async () => {
  await withNodes(3, async (nodes) => {
    const [one, two, three] = nodes as [IpsecNode, IpsecNode, IpsecNode]
    await applyAll(nodes, [K3], K3)
    ip('-n', three.name, 'addr', 'add', '10.244.2.77/32', 'dev', 'lo')
    assert.equal(unanswered(three, one, '10.244.2.77'), 0)
    assert.equal(drops(one)['XfrmInTmplMismatch'], 2)
    assert.equal((await one.datapath.counters(DEVICE))['XfrmInTmplMismatch'], 2)
    assert.equal(ping(two, one, 2), 2)
  })
})

test('what somebody else does to it is known from the kernel`s events, what it does itself is none of that', async () => {
  await withNodes(2, async (nodes) => {
    const [one, two] = nodes as [IpsecNode, IpsecNode]
    const events: boolean[] = []
    const ignore = () => undefined
    const monitor = inNetworkNamespace(
      `/run/netns/${one.name}`,
      () =>
        new KernelMonitor({
          event: ignore,
          table: ignore,
          lost: ignore,
          fault: (fault) => assert.fail(String(fault)),
          xfrm: (event) => events.push(one.datapath.concerns(event)),
        }),
    )
    try {
      await one.datapath.applyIpsec(deviceOf(one, [two], [K3], K3))
      await until('events have come', () => events.length >= 10)
      assert.ok(!events.includes(true))
      ip(
        '-n',
        one.name,
        'xfrm',
        'policy',
        'delete',
        ...'src 10.244.2.0/24 dst 0.0.0.0/0 dir in if_id'.split(' '),
        idOf(one),
      )
      await until('it was told', () => events.includes(true))
      // so the next apply looks at everything
      await one.datapath.applyIpsec(deviceOf(one, [two], [K3], K3))
      assert.match(ip('-n', one.name, 'xfrm', 'policy', 'list'), /src 10.244.2.0\/24 dst 0.0.0.0\/0 \n\tdir in/)
    } finally {
      await monitor.close()
    }
  })
})

function idOf({ name }: IpsecNode): string {
  return (
    /if_id (0x[0-9a-f]+)/.exec(ip('-n', name, '-d', 'link', 'show', DEVICE))?.[1] ?? assert.fail('no xfrm interface')
  )
}

test('what is somebody else`s stays: a state in the way, a device of that name, a port that is taken', async () => {
  await withNodes(2, async (nodes) => {
    const [one, two] = nodes as [IpsecNode, IpsecNode]
    const foreign = 'src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x3'
    const key = `0x${'11'.repeat(20)}`
    ip(...`-n ${one.name} xfrm state add ${foreign} mode tunnel aead rfc4106(gcm(aes)) ${key} 128`.split(' '))
    const wanted = deviceOf(one, [two], [K3], K3)
    await assert.rejects(one.datapath.applyIpsec(wanted), { code: 'datapath.foreign', field: 'state/192.0.2.2/3' })
    assert.match(ip('-n', one.name, 'xfrm', 'state', 'list'), /0x1111111111/)
    ip(...`-n ${one.name} xfrm state delete ${foreign}`.split(' '))
    await one.datapath.applyIpsec(wanted).catch(() => undefined)

    const other = { ...settings(), name: 'pk-other' }
    ip('-n', one.name, 'link', 'add', other.name, 'type', 'dummy')
    await assert.rejects(one.datapath.openIpsec(other), { code: 'kernel.xfrm.foreign' })
    assert.match(ip('-n', one.name, '-d', 'link', 'show', other.name), /dummy/)

    const taken = new EncapSockets()
    inNetworkNamespace(`/run/netns/${two.name}`, () => taken.open(4500))
    try {
      const udp = deviceOf(two, [one], [K3], K3, { encapsulation: 'udp', family: 4 })
      await assert.rejects(two.datapath.applyIpsec(udp), { code: 'datapath.port', field: 'udp/4500' })
    } finally {
      taken.close()
    }
  })
})

/** The kernel's own list, where the guest's has them; of each what the key text can say. */
const ALGORITHMS: readonly IpsecKey[] = [
  aead(3, 1, 'rfc4106(gcm(aes))', 20, 12),
  aead(3, 2, 'rfc4106(gcm(aes))', 28),
  aead(3, 3, 'rfc4106(gcm(aes))', 36),
  aead(3, 4, 'rfc4309(ccm(aes))', 19),
  aead(3, 5, 'rfc7539esp(chacha20,poly1305)', 36),
  aead(3, 6, 'rfc4543(gcm(aes))', 20),
  hmac(3, 7, 'hmac(sha1)', 20, 12),
  hmac(3, 8, 'hmac(sha256)', 32, 16),
  hmac(3, 9, 'hmac(sha384)', 48, 24),
  hmac(3, 10, 'hmac(sha512)', 64, 32, { name: 'cbc(aes)', bytes: 32 }),
  hmac(3, 11, 'hmac(sha256)', 32, 16, { name: 'rfc3686(ctr(aes))', bytes: 20 }),
  hmac(3, 12, 'hmac(sha256)', 32, 16, { name: 'ecb(cipher_null)', bytes: 0 }),
]

test('every algorithm of this kernel that a key can name carries packets', async () => {
  await withNodes(2, async (nodes) => {
    const [one, two] = nodes as [IpsecNode, IpsecNode]
    for (const [index, key] of ALGORITHMS.entries()) {
      // the ids take turns, as a rotation's do
      const turned = { ...key, id: 3 + (index % 2) }
      await applyAll(nodes, [turned], turned)
      const name = `${key.authenticationAlgorithm ?? ''} ${key.encryptionAlgorithm} ${key.icvBytes}`
      assert.equal(ping(one, two, 2), 2, name)
      const state = await one.datapath.observeIpsec(DEVICE)
      assert.equal(state?.associations.length, 2, name)
      const before = state?.associations.map(({ sequence }) => sequence)
      // known again by what the kernel shows of it
      await applyAll(nodes, [turned], turned)
      assert.deepEqual(
        (await one.datapath.observeIpsec(DEVICE))?.associations.map(({ sequence }) => sequence),
        before,
      )
    }
    const known = inNetworkNamespace(`/run/netns/${one.name}`, () => readFileSync('/proc/crypto', 'utf8'))
    assert.match(known, /rfc4106\(gcm\(aes\)\)/)
  })
})
