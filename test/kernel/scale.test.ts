import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { IpsecPeer } from '#core/datapath/datapath.ts'
import { requireIp } from '#core/ip/address.ts'
import { hostCidr } from '#core/ip/cidr.ts'
import type { IpsecKey } from '#core/ipsec/key.ts'
import { KernelDatapath } from '#io/kernel/kernel-datapath.ts'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'
import { bootIdOf, internalIpsOf, nodeIpsOf, podCidrsOf } from '#test/kit/snapshots.ts'
import { DEVICE, gcm, ip, settings } from './ipsec-nodes.ts'

// What many peers cost on the guest's real kernel (tools/kernel). It is emulated: another machine is some ten times faster.

const [K3, K4] = [gcm(3, 0x33), gcm(4, 0x44)]

for (const count of [50, 1000, 5000]) {
  test(`${count} peers: from nothing, one more, one key for all`, async (t) => {
    if (!SLOW) return t.skip(SLOW_HINT)
    const folder = mkdtempSync(join(tmpdir(), 'pk-scale-'))
    ip('netns', 'add', 'pk-scale')
    const datapath = new KernelDatapath({ namespace: '/run/netns/pk-scale', stateFolder: folder })
    try {
      const { bootId } = await datapath.openIpsec(settings())
      const measure = async (what: string, peers: readonly IpsecPeer[], keys: readonly IpsecKey[]) => {
        const started = performance.now()
        await datapath.applyIpsec({ ...settings(), bootId, peers, keys })
        const ms = Math.round(performance.now() - started)
        const megabytes = Math.round(process.memoryUsage.rss() / 2 ** 20)
        t.diagnostic(`${count} peers, ${what}: ${ms} ms, ${megabytes} MiB resident`)
      }
      const peers = Array.from({ length: count }, (_, i) => peerOf(i + 2, [K3], K3))
      await measure('from nothing', peers, [K3])
      await measure('the same again', peers, [K3])
      const more = [...peers, peerOf(count + 2, [K3], K3)]
      await measure('one more', more, [K3])
      const turned = more.map((_, i) => peerOf(i + 2, [K3, K4], K3))
      await measure('a key for all: received by', turned, [K3, K4])
      await measure(
        'sent by',
        more.map((_, i) => peerOf(i + 2, [K3, K4], K4)),
        [K3, K4],
      )
      await measure(
        'the old one gone',
        more.map((_, i) => peerOf(i + 2, [K4], K4)),
        [K4],
      )
      const state = await datapath.observeIpsec(DEVICE)
      assert.equal(state?.associations.length, 2 * (count + 1))
    } finally {
      await datapath.remove(DEVICE)
      await datapath.close()
      ip('netns', 'del', 'pk-scale')
      rmSync(folder, { recursive: true })
    }
  })
}

function peerOf(n: number, receive: readonly IpsecKey[], send: IpsecKey): IpsecPeer {
  return {
    node: `node-${n}`,
    bootId: bootIdOf(n),
    source: requireIp('172.17.0.1', 'test'),
    destination: nodeIpsOf(n)[4],
    encapsulation: 'none',
    allowedIps: [...podCidrsOf(n), hostCidr(internalIpsOf(n)[4]), hostCidr(nodeIpsOf(n)[4])],
    receive,
    send,
  }
}
