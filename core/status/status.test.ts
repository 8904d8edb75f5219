import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type AgentStatus, formatAgentStatus } from './agent-status.ts'
import { formatColumns } from './columns.ts'
import { type EncryptionStatus, formatEncryptStatus } from './encryption-status.ts'

const KEY = 'qCzNE4dZv6MsMgdk0xFlT8q72c3ZIArvtyFDNlly4gA='
const WIREGUARD: EncryptionStatus = {
  mode: 'Wireguard',
  wireguard: {
    'node-encryption': 'Disabled',
    interfaces: [{ name: 'cilium_wg0', 'listen-port': 51871, 'public-key': KEY, 'peer-count': 3 }],
  },
}

const STATUS: AgentStatus = {
  cilium: { state: 'Ok', msg: '0.1.0' },
  kubernetes: { state: 'Ok', msg: '1.34' },
  'cni-file': {
    state: 'Ok',
    msg: 'successfully wrote CNI configuration file to /host/etc/cni/net.d/05-cilium.conflist',
  },
  ipam: { status: 'IPv4: 2/254 allocated from 10.244.1.0/24', allocations: { '10.244.1.1': 'router' } },
  routing: { 'inter-host-routing-mode': 'Tunnel [vxlan]', 'intra-host-routing-mode': 'Legacy' },
  masquerading: { mode: 'nftables', enabled: true, enabledProtocols: { ipv4: true, ipv6: false } },
  controllers: [
    { name: 'reconcile' },
    {
      name: 'publish',
      status: {
        'consecutive-failure-count': 2,
        'last-failure-msg': 'away',
        'last-failure-timestamp': '2026-11-21T12:00:00.000Z',
      },
    },
  ],
  encryption: WIREGUARD,
  pellicle: {
    version: '0.1.0',
    'cilium-version': '1.18.0-pellicle.0.1.0',
    node: 'kind-worker2',
    datapath: 'userspace',
    level: 3,
    phase: 'closed (level 3 of 3)',
    'network-policy': 'not enforced',
    problems: [],
    peers: [
      { node: 'kind-worker', 'public-key': KEY, state: 'idle' },
      { node: 'kind-worker3', state: 'no key' },
    ],
    drops: [],
  },
}

test('columns are as wide as their widest cell in consecutive lines, as in text/tabwriter', () => {
  const text = formatColumns([['a:', 'xx', 'y'], ['bbbb:', 'x', 'y'], ['only'], ['c:', 'xxxxxx', ''], []])
  assert.equal(text, 'a:      xx   y\nbbbb:   x    y\nonly\nc:   xxxxxx\n\n')
})

test('the Encryption line has Cilium’s words and real columns', () => {
  const text = formatAgentStatus(STATUS)
  const line = text.split('\n').find((one) => one.startsWith('Encryption:')) ?? ''
  assert.equal(
    line.replace(/ {3,}/g, '   '),
    `Encryption:   Wireguard   [NodeEncryption: Disabled, cilium_wg0 (Pubkey: ${KEY}, Port: 51871, Peers: 3)]`,
  )
  const second = text.split('\n').filter((one) => /^\S+( \S+)*: {2,}/.test(one))
  const starts = new Set(second.map((one) => /: +/.exec(one)![0].length + one.indexOf(':')))
  assert.equal(starts.size, 1, 'all values start in one column')
  // what scripts grep must be there once
  assert.equal(text.split('\n').filter((one) => one.includes('Encryption:')).length, 1)
})

test('status says what is not there and what does not work', () => {
  const text = formatAgentStatus(STATUS)
  assert.match(text, /^NetworkPolicy: +not enforced$/m)
  assert.match(text, /^Controller Status: +1\/2 healthy\n {2}publish +away$/m)
  assert.match(text, /^Unreachable nodes: +kind-worker3 \(no key\)$/m)
  assert.ok(!text.includes('10.244.1.1 '))
  assert.match(formatAgentStatus(STATUS, { verbose: true }), /^ {2}10\.244\.1\.1 \(router\)$/m)
})

test('Disabled, and a message instead of the fields', () => {
  assert.match(formatAgentStatus({ ...STATUS, encryption: { mode: 'Disabled' } }), /^Encryption: +Disabled$/m)
  const msg = formatAgentStatus({ ...STATUS, encryption: { ...WIREGUARD, msg: 'the keeper does not answer' } })
  assert.match(msg, /^Encryption: +Wireguard +the keeper does not answer$/m)
})

test('encrypt status', () => {
  assert.equal(
    formatEncryptStatus(WIREGUARD),
    `Encryption: Wireguard                 \nInterface: cilium_wg0\n\tPublic key: ${KEY}\n\tNumber of peers: 3\n`,
  )
  assert.equal(formatEncryptStatus({ mode: 'Disabled' }), 'Encryption: Disabled                  \n')
})

test('why it is that datapath is told when asked for everything', () => {
  const reason = 'this kernel lacks WireGuard devices (module wireguard, CONFIG_WIREGUARD)'
  const status = { ...STATUS, pellicle: { ...STATUS.pellicle, 'datapath-reason': reason } }
  const line = (text: string) => text.split('\n').find((one) => one.startsWith('Datapath:'))
  assert.match(
    line(formatAgentStatus(status, { verbose: true })) ?? '',
    new RegExp(`userspace +${reason.slice(0, 20)}`),
  )
  assert.match(line(formatAgentStatus(status)) ?? '', /userspace$/)
})
