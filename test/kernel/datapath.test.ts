import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { WireguardDevice } from '#core/datapath/datapath.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { wireguardCrypto } from '#io/crypto/wireguard-crypto.ts'
import { KernelDatapath } from '#io/kernel/kernel-datapath.ts'
import { datapathContract } from '#test/contract/datapath.ts'

// The real kernel of the guest (tools/kernel): namespaces are nodes.

const ip = (...args: readonly string[]) => execFileSync('ip', args, { encoding: 'utf8' })
let made = 0

datapathContract('kernel, in the guest', async () => {
  const name = `pk-contract${++made}`
  ip('netns', 'add', name)
  const stateFolder = mkdtempSync(join(tmpdir(), 'pk-contract-'))
  const datapath = new KernelDatapath({ namespace: `/run/netns/${name}`, stateFolder })
  const end = async () => {
    ip('netns', 'del', name)
    rmSync(stateFolder, { recursive: true })
  }
  return { datapath, device: 'pk_device', end }
})

const NODES = ['pk-one', 'pk-two'] as const
const privateKey = (byte: number) => new Uint8Array(32).fill(byte)
const publicKey = (byte: number) => publicKeyOf(wireguardCrypto.importKey(privateKey(byte)).publicKey)

/** Of node 1 or 2: its pods are 10.244.N.0/24, its address 192.0.2.N. */
function deviceOf(node: number, privateByte: number, peerByte: number): WireguardDevice {
  const other = 3 - node
  return {
    name: 'cilium_wg0',
    privateKey: privateKey(privateByte),
    listenPort: 51871,
    mark: 0xe00,
    mtu: 1420,
    peers: [
      {
        publicKey: publicKey(peerByte),
        endpoint: { ip: requireIp(`192.0.2.${other}`, 'test'), port: 51871 },
        allowedIps: [requireCidr(`10.244.${other}.0/24`, 'test')],
        persistentKeepalive: 0,
      },
    ],
  }
}

test('two nodes greet each other, speak encrypted, and a prefix that goes and comes loses only its own', async () => {
  for (const name of NODES) ip('netns', 'add', name)
  ip('link', 'add', 'eth0', 'netns', NODES[0], 'type', 'veth', 'peer', 'name', 'eth0', 'netns', NODES[1])
  const [one, two] = NODES.map((name, i) => {
    for (const device of ['lo', 'eth0']) ip('-n', name, 'link', 'set', device, 'up')
    ip('-n', name, 'addr', 'add', `192.0.2.${i + 1}/24`, 'dev', 'eth0')
    return new KernelDatapath({ namespace: `/run/netns/${name}` })
  })
  assert.ok(one && two)
  try {
    await one.apply(deviceOf(1, 0x11, 0x22))
    await two.apply(deviceOf(2, 0x22, 0x11))
    for (const [i, name] of NODES.entries()) {
      ip('-n', name, 'addr', 'add', `10.244.${i + 1}.1/32`, 'dev', 'cilium_wg0')
      ip('-n', name, 'route', 'add', `10.244.${2 - i}.0/24`, 'dev', 'cilium_wg0', 'src', `10.244.${i + 1}.1`)
    }
    // nobody has sent anything: it was the greeting
    let handshake: number | undefined
    while (handshake === undefined) {
      await sleep(50)
      handshake = (await one.observe('cilium_wg0'))?.peers[0]?.lastHandshake
    }
    const ping = (count: number) =>
      ip('netns', 'exec', NODES[0], 'ping', '-q', '-c', String(count), '-i', '0.02', '-W', '2', '10.244.2.1')
    assert.match(ping(20), / 20 received, 0% packet loss/)
    const [peer] = (await one.observe('cilium_wg0'))?.peers ?? []
    assert.ok((peer?.txBytes ?? 0n) > 20n * 84n && (peer?.rxBytes ?? 0n) > 20n * 84n)
    const shown = ip('netns', 'exec', NODES[0], 'wg', 'show', 'cilium_wg0')
    assert.match(shown, /fwmark: 0xe00/)
    assert.match(shown, /allowed ips: 10\.244\.2\.0\/24/)
    // another prefix comes and goes: what is there stays without a gap, and so does the session
    const wanted = deviceOf(1, 0x11, 0x22)
    const [only] = wanted.peers
    assert.ok(only)
    const more = { ...only, allowedIps: [...only.allowedIps, requireCidr('10.99.0.0/16', 'test')] }
    await one.apply({ ...wanted, peers: [more] })
    await one.apply(wanted)
    const after = (await one.observe('cilium_wg0'))?.peers
    assert.deepEqual(
      after?.map(({ allowedIps }) => allowedIps),
      [['10.244.2.0/24']],
    )
    assert.equal(after?.[0]?.lastHandshake, handshake)
    assert.match(ping(5), / 5 received/)
  } finally {
    await one.close()
    await two.close()
    for (const name of NODES) ip('netns', 'del', name)
  }
})

test('a link of that name that is none of WireGuard is left alone', async () => {
  ip('netns', 'add', 'pk-foreign')
  const datapath = new KernelDatapath({ namespace: '/run/netns/pk-foreign' })
  try {
    ip('-n', 'pk-foreign', 'link', 'add', 'cilium_wg0', 'type', 'dummy')
    await assert.rejects(datapath.apply(deviceOf(1, 1, 2)), { code: 'kernel.wireguard.foreign' })
    await assert.rejects(datapath.remove('cilium_wg0'), { code: 'kernel.wireguard.foreign' })
    assert.match(ip('-n', 'pk-foreign', '-d', 'link', 'show', 'cilium_wg0'), /dummy/)
  } finally {
    await datapath.close()
    ip('netns', 'del', 'pk-foreign')
  }
})
