import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { Fault } from '#core/fault/fault.ts'
import { unwrap } from '#core/fault/result.ts'
import type { Ip } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { Ipam } from '#core/ipam/ipam.ts'
import { JsonFile } from '#io/store/json-file.ts'
import { SILENT } from '#io/telemetry/log.ts'
import { type Endpoint, Endpoints, endpointKey, endpointsSchema } from '../endpoints.ts'
import type { PodDevice, PodDevices } from '../ports.ts'
import type { CniAnswer } from './error.ts'
import { CONFLIST, installCni, removeCni } from './install.ts'
import { deviceName, Pods } from './pods.ts'
import { DeleteQueue } from './queue.ts'
import { CniServer } from './server.ts'

class FakeDevices implements PodDevices {
  readonly made = new Map<string, PodDevice>()
  failure: Error | undefined
  adds = 0
  async add(pod: PodDevice): Promise<void> {
    this.adds++
    await new Promise((resolve) => setImmediate(resolve))
    if (this.failure !== undefined) throw this.failure
    assert.ok(!this.made.has(pod.device), 'made twice')
    this.made.set(pod.device, pod)
  }
  async remove(device: string): Promise<void> {
    this.made.delete(device)
  }
  async list(): Promise<string[]> {
    return [...this.made.keys()]
  }
  async describe() {
    return [...this.made].map(([device, { hostMac, owner }]) => ({ device, hostMac, owner }))
  }
  async check(pod: PodDevice): Promise<string[]> {
    return this.made.has(pod.device) ? [] : [`${pod.device} is missing`]
  }
  async setUp(): Promise<void> {
    // nothing here asks for it
  }
}

let folder: string
let devices: FakeDevices
let endpoints: Endpoints
let server: CniServer
let pods: Pods
let ipam: Ipam
let notReady: string | undefined
let namespaces: Set<string>
const GATEWAY = '10.244.1.1' as Ip
/** Six addresses; the gateway has one of them. */
const POOL = requireCidr('10.244.1.0/29', 'test')

async function start(): Promise<void> {
  endpoints = new Endpoints(new JsonFile(join(folder, 'lib/endpoints.json'), endpointsSchema))
  await endpoints.load()
  const internal = { 4: GATEWAY }
  const allocations = Object.fromEntries(endpoints.all().map((one) => [endpointKey(one), { 4: one.ips[0]!.ip }]))
  ipam = unwrap(Ipam.fromJson([POOL], { internal, allocations, resting: [], next: [] }))
  pods = new Pods({
    endpoints,
    devices,
    log: SILENT,
    settings: () => ({
      network: () => ({ mtu: 1370, addresses: [], routes: [], neighbours: [] }),
      allocate(owner) {
        const { 4: ip } = unwrap(ipam.allocate(owner, 0))
        assert.ok(ip !== undefined)
        return [{ ip, gateway: GATEWAY }]
      },
    }),
    release: (owner) => void ipam.release(owner, 0),
    notReady: () => notReady,
    programmed: async () => undefined,
    namespaceExists: async (netns) => namespaces.has(netns),
  })
  server = new CniServer(pods, SILENT)
}

/** Addresses in use. */
function held(): unknown[] {
  const { internal, allocations } = ipam.toJson()
  return [internal, ...Object.values(allocations)].flatMap((ips) => Object.values(ips))
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pa-cni-'))
  devices = new FakeDevices()
  notReady = undefined
  namespaces = new Set()
  await start()
})
afterEach(() => rm(folder, { recursive: true }))

function line(command: string, containerId = 'c1', more: object = {}, config: object = {}): string {
  return JSON.stringify({
    command,
    containerId,
    netns: `/run/netns/${containerId}`,
    ifname: 'eth0',
    args: `IgnoreUnknown=1;K8S_POD_NAMESPACE=endor;K8S_POD_NAME=${containerId}`,
    path: '/opt/cni/bin',
    ...more,
    config: { ...CONFLIST.plugins[0], cniVersion: '1.0.0', name: 'cilium', ...config },
  })
}

const call = async (text: string): Promise<CniAnswer & { value: Record<string, unknown> }> => {
  const answer = await server.answer(text)
  return { ...answer, value: answer.output ?? {} }
}

test('ADD gives a result in the version asked for', async () => {
  const device = deviceName('c1', 'eth0')
  assert.match(device, /^lxc[0-9a-f]{12}$/)
  const { exitCode, value } = await call(line('ADD'))
  assert.equal(exitCode, 0)
  const pod = devices.made.get(device)!
  assert.deepEqual(value, {
    cniVersion: '1.0.0',
    interfaces: [
      { name: device, mac: pod.hostMac },
      { name: 'eth0', mac: pod.mac, sandbox: '/run/netns/c1' },
    ],
    ips: [{ address: '10.244.1.2/32', gateway: GATEWAY, interface: 1 }],
    routes: [{ dst: '0.0.0.0/0', gw: GATEWAY }],
    dns: {},
  })
  const old = (await call(line('ADD', 'c2', {}, { cniVersion: '0.4.0' }))).value as { ips: object[] }
  assert.deepEqual(old.ips, [{ version: '4', address: '10.244.1.3/32', gateway: GATEWAY, interface: 1 }])
  const latest = (await call(line('ADD', 'c3', {}, { cniVersion: '1.1.0' }))).value as { interfaces: object[] }
  assert.equal((latest.interfaces[1] as { mtu: number }).mtu, 1370)
})

test('two ADDs of one container at once make one device and give the same answer', async () => {
  const [a, b] = await Promise.all([call(line('ADD')), call(line('ADD'))])
  assert.equal(a.exitCode, 0)
  assert.deepEqual(a.output, b.output)
  assert.equal(devices.adds, 1)
})

test('ADDs of different containers at once get different addresses, until there is none', async () => {
  const answers = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((id) => call(line('ADD', id))))
  const ips = answers.map(({ value }) => (value['ips'] as { address: string }[])[0]!.address)
  assert.equal(new Set(ips).size, 5)
  const full = await call(line('ADD', 'f'))
  assert.equal(full.exitCode, 1)
  assert.equal(full.value['code'], 100)
  assert.match(String(full.value['msg']), /pod CIDR 10\.244\.1\.0\/29 is used up/)
  assert.match(String(full.value['details']), /Delete pods/)
  await call(line('DEL', 'a'))
  assert.equal((await call(line('ADD', 'f'))).value['code'], 11, 'an address that was just in use rests')
})

test('DEL any number of times gives the address back, also when nothing was there', async () => {
  await call(line('ADD'))
  for (const netns of ['/run/netns/c1', '', null, '/gone']) {
    assert.deepEqual(await server.answer(line('DEL', 'c1', { netns })), { exitCode: 0, output: null })
  }
  assert.deepEqual(endpoints.all(), [])
  assert.equal((await call(line('ADD', 'c9'))).exitCode, 0)
})

test('an ADD that fails leaves nothing behind', async () => {
  devices.failure = new Fault('pod.netns', 'no such network namespace: /run/netns/c1')
  const answer = await call(line('ADD'))
  assert.equal(answer.value['code'], 5)
  assert.match(String(answer.value['msg']), /no such network namespace/)
  assert.deepEqual(endpoints.all(), [])
  devices.failure = undefined
  assert.equal((await call(line('ADD'))).exitCode, 0)
})

test('ADDs that cannot be written down hold no address', async () => {
  await writeFile(join(folder, 'lib'), 'a file where the folder should be')
  for (let i = 0; i < 3; i++) {
    assert.equal((await call(line('ADD', `full${i}`))).exitCode, 1)
    assert.deepEqual(held(), [GATEWAY])
  }
  await rm(join(folder, 'lib'))
})

test('DEL gives back what was allocated to a pod that was never written down', async () => {
  unwrap(ipam.allocate('lost/eth0', 0))
  assert.equal(held().length, 2)
  await call(line('DEL', 'lost'))
  assert.deepEqual(held(), [GATEWAY])
})

test('endpoints survive a restart of the agent', async () => {
  const first = await call(line('ADD'))
  await start()
  assert.deepEqual((await call(line('ADD'))).output, first.output)
  assert.equal(devices.adds, 1)
  const second = (await call(line('ADD', 'c2'))).value
  assert.equal((second['ips'] as { address: string }[])[0]!.address, '10.244.1.3/32')
})

test('a start gives back the addresses of pods that are gone and removes devices that nobody knows', async () => {
  await call(line('ADD', 'gone'))
  await call(line('ADD', 'stays'))
  devices.made.delete(deviceName('gone', 'eth0'))
  devices.made.set('lxc000000000000', devices.made.get(deviceName('stays', 'eth0'))!)
  await start()
  await pods.reclaim()
  assert.deepEqual(
    endpoints.all().map(({ containerId }) => containerId),
    ['stays'],
  )
  assert.deepEqual(await devices.list(), [deviceName('stays', 'eth0')])
})

test('after a lost endpoints file running pods are known again by their devices, others are removed', async () => {
  for (const id of ['a', 'b']) await call(line('ADD', id))
  const before = endpoints.all()
  const made = devices.made.get(deviceName('b', 'eth0'))
  assert.ok(made !== undefined)
  devices.made.set('lxcffffffffffff', { ...made, device: 'lxcffffffffffff', owner: 'of another release' })
  await rm(join(folder, 'lib/endpoints.json'))
  await start()
  assert.equal(endpoints.all().length, 0)
  await pods.reclaim()
  const facts = ({ containerId, device, mac, hostMac, ips, ready }: Endpoint) => ({
    containerId,
    device,
    mac,
    hostMac,
    ips,
    ready,
  })
  assert.deepEqual(endpoints.all().map(facts), before.map(facts))
  assert.deepEqual(await devices.list(), [deviceName('a', 'eth0'), deviceName('b', 'eth0')])
  const again = await call(line('ADD', 'a'))
  assert.equal(again.exitCode, 0, 'the same ADD again gives the same')
  assert.equal((await call(line('DEL', 'b'))).exitCode, 0)
  assert.deepEqual(await devices.list(), [deviceName('a', 'eth0')])
})

test('a pod that lost its device but still runs keeps its address', async () => {
  await call(line('ADD', 'alive'))
  devices.made.clear()
  namespaces.add('/run/netns/alive')
  await pods.reclaim()
  assert.equal(endpoints.all().length, 1)
})

test('CHECK says what differs', async () => {
  assert.equal((await call(line('CHECK'))).value['code'], 3)
  await call(line('ADD'))
  const prevResult = { ips: [{ address: '10.244.1.2/32' }] }
  assert.equal((await call(line('CHECK', 'c1', {}, { prevResult }))).exitCode, 0)
  const other = { ips: [{ address: '10.244.1.9/32' }] }
  assert.match(String((await call(line('CHECK', 'c1', {}, { prevResult: other }))).value['msg']), /lacks 10.244.1.2/)
  devices.made.clear()
  assert.equal((await call(line('CHECK'))).value['code'], 101)
})

test('GC removes all but what is still in use', async () => {
  for (const id of ['a', 'b']) await call(line('ADD', id))
  const keep = { 'cni.dev/valid-attachments': [{ containerID: 'b', ifname: 'eth0' }] }
  assert.equal((await call(line('GC', '', {}, { cniVersion: '1.1.0', ...keep }))).exitCode, 0)
  assert.deepEqual(
    endpoints.all().map(({ containerId }) => containerId),
    ['b'],
  )
  assert.equal((await call(line('GC', '', {}, { cniVersion: '1.1.0' }))).value['code'], 7)
})

test('until the agent can serve, ADD and STATUS say why, DEL works', async () => {
  notReady = 'the node has no pod CIDR'
  const add = await call(line('ADD'))
  assert.equal(add.value['code'], 11)
  assert.match(String(add.value['msg']), /no pod CIDR/)
  assert.equal((await call(line('STATUS', '', {}, { cniVersion: '1.1.0' }))).value['code'], 50)
  assert.equal((await call(line('DEL'))).exitCode, 0)
  notReady = undefined
  assert.equal((await call(line('STATUS', '', {}, { cniVersion: '1.1.0' }))).exitCode, 0)
})

test('wrong requests are answered in CNI terms', async () => {
  const cases: [string, number][] = [
    ['', 6],
    ['{"command":', 6],
    ['[]', 6],
    [line('FROB'), 4],
    [line('ADD', '../etc'), 4],
    [line('ADD', ''), 4],
    [line('ADD', 'c1', { ifname: 'a/b' }), 4],
    [line('ADD', 'c1', { ifname: 'sixteencharacter' }), 4],
    [line('ADD', 'c1', { netns: '' }), 4],
    [line('ADD', 'c1', { netns: null }), 4],
    [line('ADD', 'c1', {}, { cniVersion: '2.0.0' }), 1],
    [line('ADD', 'c1', {}, { cniVersion: 7 }), 7],
  ]
  for (const [text, code] of cases) {
    const { exitCode, value } = await call(text)
    assert.equal(exitCode, 1, text)
    assert.equal(value['code'], code, text)
  }
  assert.equal((await call(line('ADD', 'c1', { netns: '' }, { cniVersion: '0.4.0' }))).value['cniVersion'], '0.4.0')
})

test('the socket: one line in, one line out', async () => {
  const path = join(folder, 'run/cni.sock')
  await mkdir(join(folder, 'run'))
  await writeFile(path, 'left by a killed agent')
  await server.listen(path)
  try {
    assert.equal((await stat(path)).mode & 0o777, 0o600)
    const talk = (text: string) =>
      new Promise<string>((resolve, reject) => {
        let answer = ''
        const socket = createConnection(path, () => socket.write(text))
        socket.setEncoding('utf8')
        socket.on('data', (chunk: string) => {
          answer += chunk
        })
        socket.on('end', () => resolve(answer))
        socket.on('error', reject)
      })
    const answer = JSON.parse(await talk(`${line('ADD')}\n`)) as CniAnswer
    assert.equal(answer.exitCode, 0)
    assert.match(JSON.stringify(answer.output), /10\.244\.1\.2/)
    assert.equal((JSON.parse(await talk('nonsense\n')) as CniAnswer).exitCode, 1)
    assert.equal((JSON.parse(await talk('x'.repeat(2 * 1024 * 1024))) as CniAnswer).exitCode, 1)
  } finally {
    await server.close()
  }
})

test('DELs that were queued are worked off, nonsense is dropped, the rest stays', async () => {
  await call(line('ADD'))
  const queue = join(folder, 'deletequeue')
  await mkdir(queue)
  await writeFile(join(queue, '1.json'), `${line('DEL')}\n`)
  await writeFile(join(queue, '2.json'), 'nonsense')
  await writeFile(join(queue, '3.json.tmp'), line('DEL'))
  const worker = new DeleteQueue(queue, (text) => server.answer(text), SILENT)
  await worker.start()
  worker.close()
  assert.deepEqual(await readdir(queue), ['3.json.tmp'])
  assert.deepEqual(endpoints.all(), [])
})

test('executable and configuration are installed together; removal leaves the executable for late DELs', async () => {
  const places = { source: join(folder, 'image'), binFolder: join(folder, 'bin'), configFolder: join(folder, 'net.d') }
  await assert.rejects(installCni(places), /the image has no/)
  await writeFile(places.source, 'ELF')
  await installCni(places)
  const inode = (await stat(join(places.binFolder, 'cilium-cni'))).ino
  await installCni(places)
  assert.equal((await stat(join(places.binFolder, 'cilium-cni'))).ino, inode, 'what is right is not touched')
  assert.equal((await stat(join(places.binFolder, 'cilium-cni'))).mode & 0o777, 0o755)
  const conflist = JSON.parse(
    await readFile(join(places.configFolder, '05-cilium.conflist'), 'utf8'),
  ) as typeof CONFLIST
  assert.equal(conflist.cniVersion, '1.0.0')
  assert.equal(conflist.plugins[0]!.type, 'cilium-cni')
  await removeCni(places)
  await removeCni(places)
  assert.deepEqual(await readdir(places.configFolder), [])
  assert.deepEqual(await readdir(places.binFolder), ['cilium-cni'])
})
