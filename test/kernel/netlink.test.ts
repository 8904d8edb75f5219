import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { Fault } from '#core/fault/fault.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { newLink } from '#core/netlink/link.ts'
import { IPPROTO_ESP } from '#core/netlink/xfrm.ts'
import { XFRM_STATE_ESN } from '#core/netlink/xfrm-state.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { NetlinkSocket } from '#io/kernel/netlink-socket.ts'
import { inScratchNamespace } from '#io/kernel/network-namespace.ts'
import { WireguardClient } from '#io/kernel/wireguard-client.ts'
import { XfrmClient } from '#io/kernel/xfrm-client.ts'
import { FORWARD_POLICY, IN, IN_POLICY, OUT, OUT_POLICY, SIX, UDP } from './xfrm-samples.ts'

// The real kernel of the guest (tools/kernel): each test in a network namespace of its own.

/** The children of this thread are born in the namespace that it is in. */
const run = (...args: readonly [string, ...string[]]) => execFileSync(args[0], args.slice(1), { encoding: 'utf8' })

function withXfrm(body: (client: XfrmClient) => void): void {
  inScratchNamespace(() => {
    const client = new XfrmClient()
    try {
      body(client)
    } finally {
      client.close()
    }
  })
}

const without = (value: object | undefined, ...names: string[]): Record<string, unknown> =>
  Object.fromEntries(Object.entries(value ?? {}).filter(([name]) => !names.includes(name)))
const COUNTED = ['bytes', 'packets', 'added', 'firstUsed', 'beforeWindow', 'replayed', 'integrityFailed']

test('states: what is added is read back whole, and ip xfrm shows it', () => {
  withXfrm((client) => {
    for (const state of [OUT, IN, SIX, UDP]) client.change({ do: 'add state', state })
    const seen = client.states()
    for (const state of [OUT, IN, SIX, UDP]) {
      const found = seen.find(({ destination }) => destination === state.destination)
      assert.deepEqual(without(found, ...COUNTED), { ...state })
    }
    const shown = run('ip', '-d', 'xfrm', 'state', 'list')
    assert.match(shown, /src 10\.0\.0\.1 dst 10\.0\.0\.2\n\tproto esp spi 0x00000003 reqid 1/)
    assert.match(shown, /mark 0x10d00\/0xffff0f00/)
    assert.match(shown, /output-mark 0xe00\/0xf00/)
    assert.match(shown, /encap type espinudp sport 4500 dport 4501/)
    client.change({ do: 'delete state', state: IN })
    assert.equal(client.states().length, 3)
  })
})

test('two sources with the same SPI are told apart by the mark alone', () => {
  withXfrm((client) => {
    const other = { ...IN, source: SIX.source }
    client.change({ do: 'add state', state: IN })
    const second = { ...IN, source: UDP.destination }
    assert.throws(() => client.change({ do: 'add state', state: second }), { code: 'kernel.eexist' })
    client.change({ do: 'add state', state: { ...second, mark: { value: 0x20d00, mask: 0xffff0f00 } } })
    assert.equal(client.states().length, 2)
    assert.throws(() => client.change({ do: 'add state', state: other }), TypeError)
  })
})

test('a state begins where it is told to: sequence numbers beyond 32 bits', () => {
  withXfrm((client) => {
    const replay = { sent: (7n << 32n) + 5n, received: 0n, window: 1024 }
    client.change({ do: 'add state', state: { ...OUT, replay } })
    assert.deepEqual(client.states()[0]?.replay, replay)
  })
})

test('an update keeps the sequence numbers', () => {
  withXfrm((client) => {
    const replay = { sent: 99n, received: 0n, window: 1024 }
    client.change({ do: 'add state', state: { ...OUT, replay } })
    const update = { ...OUT, replay, outputMark: { value: 0x100, mask: 0xf00 } }
    client.change({ do: 'update state', state: update })
    assert.deepEqual(client.states()[0]?.replay, replay)
  })
})

test('policies: added, replaced in place, removed; a template that is required', () => {
  withXfrm((client) => {
    for (const policy of [OUT_POLICY, IN_POLICY, FORWARD_POLICY]) client.change({ do: 'add policy', policy })
    const seen = () => client.policies().map((policy) => without(policy, ...COUNTED, 'index'))
    for (const policy of [OUT_POLICY, IN_POLICY, FORWARD_POLICY]) {
      assert.deepEqual(
        seen().find(({ direction }) => direction === policy.direction),
        { ...policy },
      )
    }
    assert.throws(() => client.change({ do: 'add policy', policy: OUT_POLICY }), { code: 'kernel.eexist' })
    const changed = { ...OUT_POLICY, priority: 7 }
    client.change({ do: 'set policy', policy: changed })
    assert.deepEqual(
      seen().find(({ direction }) => direction === 'out'),
      changed,
    )
    client.change({ do: 'delete policy', policy: OUT_POLICY })
    assert.throws(() => client.change({ do: 'delete policy', policy: OUT_POLICY }), { code: 'kernel.enoent' })
    assert.equal(seen().length, 2)
  })
})

test('what is refused says what it was and why, in the kernel’s words, without the key', () => {
  withXfrm((client) => {
    const crypto = { aead: { name: 'rfc4106(nothing(aes))', key: new Uint8Array(20).fill(0xa5), icvBytes: 16 } }
    assert.throws(
      () => client.change({ do: 'add state', state: { ...OUT, crypto } }),
      (error: unknown) => {
        assert.ok(error instanceof Fault)
        assert.equal(error.code, 'kernel.enosys')
        assert.match(error.message, /10\.0\.0\.1 → 10\.0\.0\.2 spi 0x3: .*Requested AEAD algorithm not found/)
        assert.doesNotMatch(error.message, /a5a5/)
        return true
      },
    )
  })
})

test('300 states by a batch, one of them there already: only that one fails', () => {
  withXfrm((client) => {
    const changes = Array.from({ length: 300 }, (_, i) => ({
      do: 'add state' as const,
      state: { ...OUT, spi: 0x1000 + (i === 170 ? 3 : i) },
    }))
    const faults = client.changeAll(changes)
    assert.deepEqual(
      faults.flatMap((fault, i) => (fault === undefined ? [] : [[i, fault.code]])),
      [[170, 'kernel.eexist']],
    )
    assert.equal(client.states().length, 299)
  })
})

/** Names and key sizes by RFC 4106, 4309, 4543, 7634, 3602, 4868, 2404. */
const ALGORITHMS: readonly (readonly [
  name: string,
  keyBytes: number,
  authentication?: string,
  authBytes?: number,
  icv?: number,
])[] = [
  ['rfc4106(gcm(aes))', 20],
  ['rfc4106(gcm(aes))', 36],
  ['rfc4309(ccm(aes))', 19],
  ['rfc4543(gcm(aes))', 20],
  ['rfc7539esp(chacha20,poly1305)', 36],
  ['cbc(aes)', 16, 'hmac(sha1)', 20, 12],
  ['cbc(aes)', 16, 'hmac(sha256)', 32, 16],
  ['cbc(aes)', 32, 'hmac(sha384)', 48, 24],
  ['cbc(aes)', 32, 'hmac(sha512)', 64, 32],
  ['ecb(cipher_null)', 0, 'hmac(sha256)', 32, 16],
]
for (const [name, keyBytes, authentication, authBytes = 0, icvBytes = 16] of ALGORITHMS) {
  test(`the kernel has ${authentication === undefined ? '' : `${authentication} `}${name} with ${keyBytes * 8} bits`, () => {
    withXfrm((client) => {
      const encryption = { name, key: Uint8Array.from({ length: keyBytes }, (_, i) => i) }
      const crypto =
        authentication === undefined
          ? { aead: { ...encryption, icvBytes } }
          : { encryption, authentication: { name: authentication, key: new Uint8Array(authBytes).fill(1), icvBytes } }
      const state = { ...OUT, protocol: IPPROTO_ESP, flags: XFRM_STATE_ESN, crypto }
      client.change({ do: 'add state', state })
      assert.deepEqual(client.states()[0]?.crypto, crypto)
    })
  })
}

test('WireGuard: 3,000 allowed IPs go there and come back, and wg shows the same', () => {
  inScratchNamespace(() => {
    const links = new NetlinkSocket()
    const client = new WireguardClient()
    try {
      assert.equal(client.read('wg-test'), undefined)
      links.request('make', newLink({ name: 'wg-test', kind: 'wireguard' }))
      const allowedIps = Array.from({ length: 3000 }, (_, i) => requireCidr(`10.${i >> 8}.${i & 255}.0/24`, 'test'))
      const publicKey = publicKeyOf(new Uint8Array(32).fill(9))
      client.change({ name: 'wg-test', mark: 0xe00, peers: [{ publicKey, allowedIps, persistentKeepalive: 7 }] })
      const [peer] = client.read('wg-test')?.peers ?? []
      assert.deepEqual([...(peer?.allowedIps ?? [])].sort(), [...allowedIps].sort())
      assert.equal(peer?.persistentKeepalive, 7)
      const shown = run('wg', 'show', 'wg-test', 'allowed-ips').trim().split(/\s+/)
      assert.deepEqual(shown.slice(1).sort(), [...allowedIps].sort())
      assert.throws(() => client.read('lo'), { code: 'kernel.wireguard.foreign' })
    } finally {
      client.close()
      links.close()
    }
  })
})
