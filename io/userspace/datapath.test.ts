import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { WireguardDevice, WireguardPeer } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { datapathContract } from '#test/contract/datapath.ts'
import { FakeDatapath } from '#test/kit/fake-datapath.ts'
import { FakeNodeRuntime } from '#test/kit/fake-node-runtime.ts'
import { UserspaceDatapath } from './datapath.ts'
import { diffUapi } from './uapi-diff.ts'
import { parseGet } from './uapi-text.ts'

async function start() {
  const folder = await mkdtemp(join(tmpdir(), 'pa-uapi-'))
  const runtime = new FakeNodeRuntime(folder)
  await runtime.start()
  const { supervisorSocket, controlFolder } = runtime
  const datapath = new UserspaceDatapath({ supervisorSocket, controlFolder, timeoutMs: 5000 })
  const end = async () => {
    await runtime.stop()
    await rm(folder, { recursive: true })
  }
  return { datapath, runtime, device: 'pa_wg0', end, folder }
}

datapathContract('fake', async () => ({ datapath: new FakeDatapath(), device: 'pa_wg0', end: async () => undefined }))
datapathContract('userspace, with a supervisor and keeper in memory', start)

const HEX = (byte: string) => byte.repeat(32)
const peer = (index: number, ips: string[], port = 51871): WireguardPeer => ({
  publicKey: publicKeyOf(new Uint8Array(32).fill(index)),
  endpoint: { ip: requireIp(`192.0.2.${index}`, 'test'), port },
  allowedIps: ips.map((ip) => requireCidr(ip, 'test')),
  persistentKeepalive: 0,
})
const device = (...peers: WireguardPeer[]): WireguardDevice => ({
  name: 'pa_wg0',
  privateKey: new Uint8Array(32).fill(0x70),
  listenPort: 51871,
  mark: 0xe00,
  mtu: 1420,
  peers,
})

test('only differences are sent, and nothing when there is none', async () => {
  const { datapath, runtime, end } = await start()
  try {
    await datapath.apply(device(peer(1, ['10.1.0.0/24']), peer(2, ['10.2.0.0/24'])))
    await datapath.apply(device(peer(1, ['10.1.0.0/24']), peer(2, ['10.2.0.0/24'])))
    assert.equal(runtime.sets.length, 1)
    await datapath.apply(device(peer(1, ['10.1.0.0/24']), peer(2, ['10.2.0.0/24', '10.3.0.0/24'])))
    assert.equal(runtime.sets[1], `set=1\npublic_key=${HEX('02')}\nupdate_only=true\nallowed_ip=10.3.0.0/24\n\n`)
  } finally {
    await end()
  }
})

test('a node with a new key: the new peer takes the prefix before the old one goes, in one call', () => {
  const actual = parseGet(
    `private_key=${HEX('70')}\nlisten_port=51871\nfwmark=3584\npublic_key=${HEX('01')}\nendpoint=192.0.2.1:51871\nallowed_ip=10.1.0.0/24\nerrno=0\n\n`,
  )
  assert.deepEqual(diffUapi(device(peer(3, ['10.1.0.0/24'])), actual), [
    `public_key=${HEX('03')}`,
    'endpoint=192.0.2.3:51871',
    'allowed_ip=10.1.0.0/24',
    'pellicle_greet=true',
    `public_key=${HEX('01')}`,
    'remove=true',
  ])
})

test('an endpoint that was learnt by roaming stays until the cluster announces another', async () => {
  const { datapath, runtime, end } = await start()
  try {
    await datapath.apply(device(peer(1, ['10.1.0.0/24'])))
    const there = runtime.devices.get('pa_wg0')!.peers.get(HEX('01'))!
    there.endpoint = '198.51.100.7:40000'
    await datapath.apply(device(peer(1, ['10.1.0.0/24'])))
    assert.equal(there.endpoint, '198.51.100.7:40000')
    await datapath.apply(device(peer(1, ['10.1.0.0/24'], 51872)))
    assert.equal(there.endpoint, '192.0.2.1:51872')
  } finally {
    await end()
  }
})

test('handshake times and counters are read', () => {
  const { peers } = parseGet(
    `listen_port=1\npublic_key=${HEX('01')}\nlast_handshake_time_sec=1700000000\nlast_handshake_time_nsec=5000000\nrx_bytes=18446744073709551615\ntx_bytes=2\nendpoint=[2001:db8::1]:7\nerrno=0\n\n`,
  )
  assert.equal(peers[0]!.lastHandshake, 1_700_000_000_005)
  assert.equal(peers[0]!.rxBytes, 18_446_744_073_709_551_615n)
  assert.deepEqual(peers[0]!.endpoint, { ip: '2001:db8::1', port: 7 })
})

test('what goes wrong says what to do, and no key', async () => {
  const { datapath, runtime, end, folder } = await start()
  try {
    runtime.takenPorts.add(51871)
    await assert.rejects(datapath.apply(device()), (error) => {
      assert.ok(error instanceof Fault)
      assert.equal(error.code, 'datapath.port.taken')
      assert.match(error.message, /51871 is in use/)
      return true
    })
    for (const text of [
      '',
      'errno=1\n\n',
      'nonsense\n\n',
      'public_key=00\nerrno=0\n\n',
      `public_key=${HEX('01')}\nallowed_ip=x\nerrno=0\n\n`,
    ])
      assert.throws(() => parseGet(text), Fault, text)
    const away = new UserspaceDatapath({
      supervisorSocket: join(folder, 'none'),
      controlFolder: folder,
      timeoutMs: 200,
    })
    const probe = await away.probe()
    assert.ok(!probe.usable && probe.missing.includes('none') && probe.remedy.includes('pellicle-keeper'))
    await assert.rejects(away.apply(device()), (error) => {
      const text = error instanceof Fault ? `${error.message} ${error.remedy} ${error.stack}` : ''
      assert.match(text, /supervisor does not answer/)
      assert.ok(!text.includes('7070'))
      return true
    })
  } finally {
    await end()
  }
})
