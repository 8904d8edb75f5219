import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, readlinkSync } from 'node:fs'
import { test } from 'node:test'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import type { Mac } from '#core/ip/mac.ts'
import { NetlinkSocket } from '#io/kernel/netlink-socket.ts'
import { inNetworkNamespace } from '#io/kernel/network-namespace.ts'
import {
  addPodDevice,
  describePodDevices,
  listPodDevices,
  type PodDeviceSpec,
  readPodDevice,
  removePodDevice,
} from '#io/kernel/pod-device.ts'
import { enterFreshNamespace, ip, ipJson, makeNamespace } from './namespace.ts'

const addr = (text: string) => requireIp(text, 'test')
const cidr = (text: string) => requireCidr(text, 'test')
const HOST_MAC = '02:00:00:00:01:01' as Mac
const GATEWAY = addr('10.244.1.1')
const GATEWAY6 = addr('fd00:1::1')

function specFor(namespace: string): PodDeviceSpec {
  return {
    namespace: `/var/run/netns/${namespace}`,
    hostName: 'lxc0123456789ab',
    hostMac: HOST_MAC,
    podName: 'eth0',
    podMac: '02:00:00:00:01:02' as Mac,
    mtu: 1370,
    gsoMaxSize: 59_000,
    addresses: [
      { ip: addr('10.244.1.7'), length: 32 },
      { ip: addr('fd00:1::7'), length: 128 },
    ],
    routes: [
      { destination: cidr('10.244.1.1/32') },
      { destination: cidr('0.0.0.0/0'), via: GATEWAY, mtu: 1370 },
      { destination: cidr('fd00:1::1/128') },
      { destination: cidr('::/0'), via: GATEWAY6 },
    ],
    neighbours: [
      { ip: GATEWAY, mac: HOST_MAC },
      { ip: GATEWAY6, mac: HOST_MAC },
    ],
  }
}

test('a pod gets its device, and packets go both ways at once', (t) => {
  if (enterFreshNamespace(t) === undefined) return
  const pod = makeNamespace(t)
  const spec = specFor(pod)
  const host = new NetlinkSocket()
  t.after(() => host.close())
  const before = readlinkSync('/proc/thread-self/ns/net')
  addPodDevice(host, spec)
  assert.equal(readlinkSync('/proc/thread-self/ns/net'), before)

  const [inside] = ipJson(`-n ${pod} link show eth0`)
  assert.equal(inside.mtu, 1370)
  assert.equal(inside.gso_max_size, 59_000)
  assert.equal(inside.address, '02:00:00:00:01:02')
  assert.equal(inside.inet6_addr_gen_mode, 'none')
  const [outside] = ipJson('link show lxc0123456789ab')
  assert.deepEqual([outside.mtu, outside.gso_max_size, outside.address], [1370, 59_000, HOST_MAC])
  assert.match(ip(`-n ${pod} route show`), /default via 10.244.1.1 dev eth0 .*mtu 1370/)
  assert.match(ip(`-n ${pod} -6 route show default`), /default via fd00:1::1 dev eth0/)
  assert.match(ip(`-n ${pod} addr show lo`), /127.0.0.1/)
  assert.match(ip(`-n ${pod} neigh show`), /10.244.1.1 dev eth0 lladdr 02:00:00:00:01:01 PERMANENT/)

  ip(`addr add ${GATEWAY}/32 dev lo`)
  ip(`addr add ${GATEWAY6}/128 dev lo`)
  ip('route add 10.244.1.7/32 dev lxc0123456789ab src 10.244.1.1')
  ip('-6 route add fd00:1::7/128 dev lxc0123456789ab src fd00:1::1')
  // the host's part of a plan: a silent device has no link-local address to ask from
  for (const target of ['10.244.1.7', 'fd00:1::7']) {
    ip(`neigh add ${target} lladdr ${spec.podMac} dev ${spec.hostName} nud permanent`)
  }
  for (const target of ['10.244.1.7', 'fd00:1::7']) execFileSync('ping', ['-c1', '-W5', target])
  execFileSync('ip', ['netns', 'exec', pod, 'ping', '-c1', '-W5', '10.244.1.1'])

  assert.deepEqual(listPodDevices(host), ['lxc0123456789ab'])
  const { namespace: _, ...wanted } = spec
  const state = readPodDevice(host, spec.namespace, 'eth0')
  assert.ok(state !== undefined)
  const sorted = (list: readonly object[]) => list.map((one) => JSON.stringify(one, Object.keys(one).sort())).sort()
  assert.deepEqual(
    { ...state, routes: sorted(state.routes), neighbours: sorted(state.neighbours) },
    { ...wanted, up: true, routes: sorted(wanted.routes), neighbours: sorted(wanted.neighbours) },
  )

  assert.equal(removePodDevice(host, spec.hostName), true)
  assert.equal(removePodDevice(host, spec.hostName), false)
  assert.equal(readPodDevice(host, spec.namespace, 'eth0'), undefined)
  assert.deepEqual(listPodDevices(host), [])
})

test('a second device of the same name is refused, and the first one stays', (t) => {
  if (enterFreshNamespace(t) === undefined) return
  const pod = makeNamespace(t)
  const host = new NetlinkSocket()
  t.after(() => host.close())
  const spec = specFor(pod)
  addPodDevice(host, spec)
  assert.throws(() => addPodDevice(host, spec), { code: 'pod.device.exists' })
  assert.throws(() => addPodDevice(host, { ...spec, hostName: 'lxcother' }), { code: 'pod.device.exists' })
  assert.deepEqual(listPodDevices(host), ['lxc0123456789ab'])
  assert.equal(ipJson(`-n ${pod} addr show eth0`)[0].addr_info.length, 2)
})

test('what fails half way leaves nothing', (t) => {
  if (enterFreshNamespace(t) === undefined) return
  const pod = makeNamespace(t)
  const host = new NetlinkSocket()
  t.after(() => host.close())
  const spec = { ...specFor(pod), routes: [{ destination: cidr('0.0.0.0/0'), via: addr('192.0.2.1') }] }
  assert.throws(() => addPodDevice(host, spec), {
    code: 'kernel.enetunreach',
    message: /add route 0.0.0.0\/0 via 192.0.2.1 in the pod: .*unreachable \(kernel: Nexthop has invalid gateway/,
  })
  assert.deepEqual(
    ipJson('link show')
      .map((link) => link.ifname)
      .filter((name) => name.startsWith('lxc')),
    [],
  )
  assert.equal(readPodDevice(host, spec.namespace, 'eth0'), undefined)
  assert.throws(() => addPodDevice(host, { ...spec, namespace: '/var/run/netns/pn-not-there' }), {
    code: 'kernel.netns.missing',
  })
})

test('what runs inside another namespace sees that one, and the way back is taken on errors too', (t) => {
  const name = enterFreshNamespace(t)
  if (name === undefined) return
  const pod = makeNamespace(t)
  ip(`-n ${pod} link add inner type veth peer name other`)
  const path = `/var/run/netns/${pod}`
  const before = readlinkSync('/proc/thread-self/ns/net')
  assert.match(
    inNetworkNamespace(path, () => readFileSync('/proc/thread-self/net/dev', 'utf8')),
    /inner/,
  )
  assert.throws(
    () =>
      inNetworkNamespace(path, () => {
        throw new RangeError('inside')
      }),
    RangeError,
  )
  assert.equal(readlinkSync('/proc/thread-self/ns/net'), before)
  assert.throws(() => inNetworkNamespace('/etc/hostname', () => 1), { code: 'kernel.einval' })
  assert.doesNotMatch(readFileSync('/proc/thread-self/net/dev', 'utf8'), /inner/)
})

test('a device tells whose it is, to whoever has forgotten', (t) => {
  if (enterFreshNamespace(t) === undefined) return
  const pod = makeNamespace(t)
  const host = new NetlinkSocket()
  t.after(() => host.close())
  // as long as a line can be: container id, two families
  const owner = `${'c0ffee00'.repeat(8)}/eth0 02:00:00:00:01:02 10.244.255.254,10.244.255.1 ${Array(8).fill('fd01').join(':')},${Array(8).fill('fd02').join(':')}`
  addPodDevice(host, { ...specFor(pod), owner })
  assert.deepEqual(describePodDevices(host), [{ hostName: 'lxc0123456789ab', hostMac: HOST_MAC, owner }])
  assert.deepEqual(listPodDevices(host), ['lxc0123456789ab'])
})
