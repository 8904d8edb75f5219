import assert from 'node:assert/strict'
import { test } from 'node:test'
import { delegate, findHierarchies } from './cgroups.ts'
import { mountsBelow } from './down.ts'
import { resolvers } from './kubernetes/files.ts'
import { nodeObjects } from './kubernetes/objects.ts'
import { apiServerUrl, freeUnderlay, layOut } from './layout.ts'
import { carriedSettings } from './node/apt.ts'
import { servicesScript, shellQuote } from './node/services.ts'

const four = layOut({ name: 'kind', nodes: 4, family: 'ipv4', underlay: 18 })

test('names and addresses are those that the guides show', () => {
  assert.deepEqual(
    four.nodeList.map(({ name, addresses, podCidrs }) => [name, ...addresses, ...podCidrs]),
    [
      ['kind-control-plane', '172.18.0.2', '10.244.0.0/24'],
      ['kind-worker', '172.18.0.3', '10.244.1.0/24'],
      ['kind-worker2', '172.18.0.4', '10.244.2.0/24'],
      ['kind-worker3', '172.18.0.5', '10.244.3.0/24'],
    ],
  )
  assert.equal(apiServerUrl(four), 'https://172.18.0.2:6443')
})

test('dual stack has IPv4 first everywhere, IPv6 alone has no IPv4', () => {
  const dual = layOut({ name: 'd', nodes: 2, family: 'dual', underlay: 19 })
  assert.deepEqual(dual.nodeList[1]?.addresses, ['172.19.0.3', 'fd00:172:19::3'])
  assert.deepEqual(dual.nodeList[1]?.podCidrs, ['10.244.1.0/24', 'fd00:10:244:1::/64'])
  assert.deepEqual(dual.serviceCidrs, ['10.96.0.0/16', 'fd00:10:96::/112'])
  const six = layOut({ name: 's', nodes: 2, family: 'ipv6', underlay: 18 })
  assert.ok(!JSON.stringify([six.nodeList, six.podCidrs, six.serviceCidrs, six.underlayNetworks]).includes('172.18.0'))
  assert.equal(apiServerUrl(six), 'https://[fd00:172:18::2]:6443')
})

test('every node is created with its pod CIDR, the control plane with its label and without a taint of its own', () => {
  const objects = nodeObjects(four).map(({ object }) => object as { metadata: { labels: object }; spec: object })
  assert.deepEqual(objects[0]?.metadata.labels, { 'node-role.kubernetes.io/control-plane': '' })
  assert.deepEqual(objects[0]?.spec, { podCIDR: '10.244.0.0/24', podCIDRs: ['10.244.0.0/24'] })
  assert.deepEqual(objects[3]?.metadata.labels, {})
})

test('the underlay is the first network that no route of the machine reaches into', () => {
  assert.equal(freeUnderlay('default via 192.0.2.1 dev eth0'), 18)
  assert.equal(freeUnderlay('172.17.0.0/16 dev docker0\n172.18.0.0/16 dev br-1\n172.19.4.0/24 dev br-2'), 20)
  // wider routes cover what they do not name
  assert.equal(freeUnderlay('172.16.0.0/14 via 192.0.2.9 dev eth1'), 20)
  assert.equal(freeUnderlay('throw 172.18.0.0/15 table 7\nlocal 172.20.0.1 dev lo'), 21)
  assert.equal(freeUnderlay('0.0.0.0/1 via 10.8.0.1 dev tun0\n128.0.0.0/1 via 10.8.0.1 dev tun0'), 18)
  assert.equal(freeUnderlay('172.16.0.0/12 via 192.0.2.9 dev eth1\n10.200.7.0/24 dev eth2'), 201)
  assert.equal(freeUnderlay('172.16.0.0/12 via 192.0.2.9 dev eth1\n10.0.0.0/8 via 192.0.2.9 dev eth1'), undefined)
  const all = Array.from({ length: 14 }, (_, index) => `172.${index + 18}.0.0/16 dev x`).join('\n')
  assert.equal(freeUnderlay(all), 200)
  const ten = layOut({ name: 'kind', nodes: 2, family: 'dual', underlay: 200 })
  assert.deepEqual(ten.nodeList[1]?.addresses, ['10.200.0.3', 'fd00:172:200::3'])
  assert.deepEqual(ten.underlayNetworks[0], { cidr: '10.200.0.0/16', prefix: 16, gateway: '10.200.0.1' })
})

test('cgroup hierarchies of version 1 are found with their controllers, named and unified ones left out', () => {
  const mountinfo = `30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw`
  assert.deepEqual(findHierarchies(mountinfo, '/var/lib/pellicle'), {
    version: 1,
    top: 'pellicle-lab',
    mounts: [
      { folder: '/sys/fs/cgroup/cpu,cpuacct', controllers: 'cpu,cpuacct' },
      { folder: '/sys/fs/cgroup/pids', controllers: 'pids' },
    ],
  })
})

test('cgroup version 2 is one hierarchy; none at all is a fault', () => {
  assert.deepEqual(
    findHierarchies('30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate', '/var/lib/pellicle/'),
    {
      version: 2,
      top: 'pellicle-lab',
      mounts: [{ folder: '/sys/fs/cgroup', controllers: '' }],
    },
  )
  assert.throws(() => findHierarchies('22 1 8:1 / / rw - ext4 /dev/sda1 rw', '/'), { code: 'lab.cgroups' })
})

test('a lab of the same name below another folder has other cgroups', () => {
  const top = (state: string) => findHierarchies('30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw', state).top
  assert.equal(new Set([top('/var/lib/pellicle'), top('/mnt/a'), top('/mnt/b')]).size, 3)
  assert.equal(top('/mnt/a/'), top('/mnt/a'))
})

test('in a container with cgroup version 2, processes leave the root before it hands controllers down', () => {
  const at = '/sys/fs/cgroup'
  let inRoot = ['1', '77', '78']
  const inLeaf: string[] = []
  const made: string[] = []
  let subtree = ''
  const failure = (code: string) => Object.assign(new Error(code), { code })
  delegate(at, {
    read: (file) => {
      if (file === `${at}/cgroup.controllers`) return 'cpu memory pids\n'
      return file === `${at}/cgroup.subtree_control` ? 'cpu\n' : inRoot.join('\n')
    },
    write: (file, text) => {
      if (file === `${at}/init/cgroup.procs`) {
        inRoot = inRoot.filter((pid) => pid !== text)
        if (text === '78') throw failure('ESRCH')
        inLeaf.push(text)
      } else if (inRoot.length === 0) subtree = text
      else throw failure('EBUSY')
    },
    mkdir: (folder) => made.push(folder),
  })
  assert.deepEqual([subtree, made, inLeaf], ['+memory +pids', [`${at}/init`], ['1', '77']])
})

test('nodes ask the resolvers of the machine, or slirp4netns where those are on its loopback', () => {
  assert.equal(
    resolvers('# x\nsearch example.org\nnameserver 192.0.2.53\n', 'ipv4'),
    'search example.org\nnameserver 192.0.2.53\n',
  )
  assert.equal(resolvers('nameserver 127.0.0.53\noptions edns0\n', 'dual'), 'options edns0\nnameserver 10.0.2.3\n')
  assert.equal(resolvers('', 'ipv4'), 'nameserver 10.0.2.3\n')
  assert.equal(resolvers('nameserver 192.0.2.53\n', 'ipv6'), 'nameserver fd00::3\n')
})

test('mounts below a folder are found, those of a folder with a longer name are not', () => {
  const mountinfo = `1 0 8:1 / / rw - ext4 x rw
2 1 0:1 / /var/lib/pellicle/lab/kind/nodes/a/root rw - overlay o rw
3 1 0:1 / /var/lib/pellicle/lab/kind2 rw - tmpfs t rw`
  assert.deepEqual(mountsBelow(mountinfo, '/var/lib/pellicle/lab/kind'), ['/var/lib/pellicle/lab/kind/nodes/a/root'])
})

test('proxies and clock settings of apt are carried, nothing else', () => {
  const dump = `APT::Architecture "amd64";
Acquire::http::Proxy "http://proxy.example:3142";
Acquire::http::Proxy::deb.example.org "DIRECT";
Acquire::https "";
Acquire::Check-Date "false";
Acquire::AllowInsecureRepositories "1";
`
  assert.equal(
    carriedSettings(dump),
    `Acquire::http::Proxy "http://proxy.example:3142";
Acquire::http::Proxy::deb.example.org "DIRECT";
Acquire::Check-Date "false";
`,
  )
  assert.equal(carriedSettings('APT::Architecture "amd64";\n'), undefined)
})

test('words reach the shell as they are', () => {
  assert.equal(shellQuote('--node-ip=172.18.0.2,fd00::2'), '--node-ip=172.18.0.2,fd00::2')
  assert.equal(shellQuote("it's $HOME"), "'it'\\''s $HOME'")
  const node = four.nodeList[1]
  assert.ok(node !== undefined)
  assert.doesNotMatch(servicesScript(four, node), /kube-apiserver|etcd/)
})
