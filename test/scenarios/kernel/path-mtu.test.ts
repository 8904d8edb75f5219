import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { requireIp } from '#core/ip/address.ts'
import { HostKernel } from '#io/kernel/host-kernel.ts'
import { enterFreshNamespace, ip, makeNamespace } from './namespace.ts'

const MARK = 0xe00
const FAMILIES = [
  {
    option: '-4',
    near: ['192.0.2.1', '192.0.2.2'],
    far: ['198.51.100.1', '198.51.100.2'],
    nets: ['192.0.2.0/24', '198.51.100.0/24'],
    length: 24,
    flag: '',
    forwarding: 'net.ipv4.ip_forward',
  },
  {
    option: '-6',
    near: ['2001:db8:1::1', '2001:db8:1::2'],
    far: ['2001:db8:2::1', '2001:db8:2::2'],
    nets: ['2001:db8:1::/64', '2001:db8:2::/64'],
    length: 64,
    flag: ' nodad',
    forwarding: 'net.ipv6.conf.all.forwarding',
  },
] as const

/** this node ── 1500 ── router ── 1300 ── the other one */
test('what the kernel was told of a way is known by the mark of what goes there', (t) => {
  if (enterFreshNamespace(t) === undefined) return
  const [router, other] = [makeNamespace(t), makeNamespace(t)]
  const inside = (namespace: string, args: string) => ip(`-n ${namespace} ${args}`)
  ip(`link add name eth0 type veth peer name near netns ${router}`)
  inside(router, `link add name far mtu 1300 type veth peer name eth0 netns ${other}`)
  for (const { near, far, length, flag, forwarding } of FAMILIES) {
    ip(`addr add ${near[0]}/${length} dev eth0${flag}`)
    inside(router, `addr add ${near[1]}/${length} dev near${flag}`)
    inside(router, `addr add ${far[1]}/${length} dev far${flag}`)
    inside(other, `addr add ${far[0]}/${length} dev eth0${flag}`)
    ip(`netns exec ${router} sysctl -qw ${forwarding}=1`)
  }
  ip('link set eth0 up')
  for (const device of ['near', 'far']) inside(router, `link set ${device} up`)
  inside(other, 'link set eth0 up')
  for (const { option, near, far, nets } of FAMILIES) {
    // only what is marked goes there
    ip(`${option} rule add fwmark ${MARK}/0xf00 table 77`)
    ip(`${option} route add ${nets[1]} via ${near[1]} table 77`)
    inside(other, `${option} route add ${nets[0]} via ${far[1]}`)
  }
  const kernel = new HostKernel()
  t.after(() => kernel.close())
  for (const { far } of FAMILIES) {
    const end = requireIp(far[0], 'test')
    assert.equal(kernel.pathMtu(end, MARK), undefined)
    const said = () => kernel.pathMtu(end, MARK)
    for (let tries = 0; said() === undefined && tries < 20; tries++) {
      spawnSync('ping', ['-m', String(MARK), '-M', 'do', '-s', '1400', '-c', '1', '-W', '1', end])
    }
    assert.equal(said(), 1300)
    assert.throws(() => kernel.pathMtu(end, 0), /route to/)
  }
})
