import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AgentStatus } from '#core/status/agent-status.ts'
import { dropsOf } from '#core/status/drops.ts'
import type { IpsecStatus } from '#core/status/encryption-status.ts'
import { SocketAgentClient } from './agent-client.ts'
import { runDbg } from './app.ts'
import type { AgentClient } from './context.ts'

const KEY = 'qCzNE4dZv6MsMgdk0xFlT8q72c3ZIArvtyFDNlly4gA='
const STATUS: AgentStatus = {
  cilium: { state: 'Ok', msg: '0.1.0' },
  kubernetes: { state: 'Ok' },
  'cni-file': { state: 'Ok' },
  ipam: { status: 'IPv4: 1/254 allocated from 10.244.1.0/24', allocations: {} },
  routing: { 'inter-host-routing-mode': 'Tunnel [vxlan]', 'intra-host-routing-mode': 'Legacy' },
  masquerading: { mode: 'nftables', enabled: true, enabledProtocols: { ipv4: true, ipv6: false } },
  controllers: [],
  encryption: {
    mode: 'Wireguard',
    wireguard: {
      'node-encryption': 'Disabled',
      interfaces: [{ name: 'cilium_wg0', 'listen-port': 51871, 'public-key': KEY, 'peer-count': 3 }],
    },
  },
  pellicle: {
    version: '0.1.0',
    'cilium-version': '1.18.0-pellicle.0.1.0',
    node: 'kind-worker2',
    datapath: 'userspace',
    level: 3,
    phase: 'closed',
    'network-policy': 'not enforced',
    problems: [],
    peers: [],
    drops: [],
  },
}

async function dbg(line: string, agent?: AgentClient): Promise<{ out: string; err: string; code: unknown }> {
  const result = { out: '', err: '' }
  const process = {
    stdout: { write: (text: string) => void (result.out += text) },
    stderr: { write: (text: string) => void (result.err += text) },
    exitCode: null as number | string | null,
  }
  const standard: AgentClient = {
    get: async (path) => (path === '/v1/healthz' ? STATUS : { path }),
    post: async () => ({ removed: ['cilium_wg0'] }),
  }
  await runDbg(line.split(' '), { process, program: 'cilium', agent: agent ?? standard })
  return { ...result, code: process.exitCode }
}

test('what the guide greps', async () => {
  const { out, code } = await dbg('status')
  assert.equal(code, 0)
  assert.equal(
    out
      .split('\n')
      .find((line) => line.includes('Encryption:'))
      ?.replace(/ {3,}/g, '   '),
    `Encryption:   Wireguard   [NodeEncryption: Disabled, cilium_wg0 (Pubkey: ${KEY}, Port: 51871, Peers: 3)]`,
  )
})

test('output for machines', async () => {
  assert.deepEqual(JSON.parse((await dbg('status -o json')).out), STATUS)
  assert.deepEqual(JSON.parse((await dbg('encrypt status -o json')).out), STATUS.encryption)
  assert.equal((await dbg('version -o jsonpath={$.Daemon.Version}')).out, '1.18.0-pellicle.0.1.0')
  assert.match((await dbg('encrypt status --output yaml')).out, /^mode: Wireguard$/m)
  assert.match((await dbg('encrypt status')).out, /^\tNumber of peers: 3$/m)
  assert.equal((await dbg('status --brief')).out, 'OK\n')
})

test('a slip is answered with what was meant', async () => {
  const flag = await dbg('status --verbos')
  assert.equal(flag.code, 2)
  assert.match(flag.err, /--verbose/)
  assert.match((await dbg('status --ouput json')).err, /--output/)
  const command = await dbg('statsu')
  assert.equal(command.code, 2)
  assert.match(command.err, /status/)
  assert.match((await dbg('encrypt stauts')).err, /status/)
  assert.match((await dbg('status -o jsn')).err, /none of json/)
})

test('an agent that does not answer is a clear error', async () => {
  const away = new SocketAgentClient('/nonexistent/cilium.sock')
  const { err, out, code } = await dbg('status', away)
  assert.equal(out, '')
  assert.equal(code, 1)
  assert.match(err, /^Error: the agent of this node does not answer at \/nonexistent\/cilium\.sock: .*kubectl/)
  assert.equal(err.split('\n').filter((line) => line.startsWith('    at ')).length, 0)
})

test('cleanup asks for a yes', async () => {
  const asked = await dbg('cleanup')
  assert.equal(asked.code, 1)
  assert.match(asked.err, /--force/)
  assert.equal((await dbg('cleanup --force')).out, 'removed cilium_wg0\n')
})

test('ipsec as the guide shows it, and the errors by their names', async () => {
  const errors = { XfrmInNoStates: 3, XfrmInStateProtoError: 1 }
  const agent = (ipsec: IpsecStatus): AgentClient => ({
    get: async () => ({ ...STATUS, encryption: { mode: 'IPsec', ipsec } }),
    post: async () => ({}),
  })
  const well = { 'decrypt-interfaces': ['eth0'], 'keys-in-use': 4, 'max-seq-number': '0x1e3/0xffffffff' }
  assert.equal(
    (await dbg('encrypt status', agent(well))).out.replace(/ +$/gm, ''),
    'Encryption: IPsec\nDecryption interface(s): eth0\nKeys in use: 4\nMax Seq. Number: 0x1e3/0xffffffff\nErrors: 0\n',
  )
  assert.match((await dbg('encrypt status', agent(well))).out, /^Keys in use: 4 {25}$/m)
  assert.match((await dbg('status', agent(well))).out, /^Encryption: +IPsec$/m)
  const ill = { ...well, 'error-count': 4, 'xfrm-errors': errors }
  assert.match(
    (await dbg('encrypt status', agent(ill))).out,
    /^Errors: 4 +\n\tXfrmInNoStates: 3\n\tXfrmInStateProtoError: 1\n/m,
  )
  assert.equal((await dbg('encrypt status -o jsonpath={.ipsec.keys-in-use}', agent(ill))).out, '4')
  const drops = dropsOf('engine', errors)
  const explained: AgentClient = {
    get: async () => ({
      ...STATUS,
      encryption: { mode: 'IPsec', ipsec: ill },
      pellicle: { ...STATUS.pellicle, drops },
    }),
    post: async () => ({}),
  }
  assert.match(
    (await dbg('encrypt status', explained)).out,
    /^ {2}XfrmInNoStates +3 +for a key that this node does not receive by, .*compare the keys of both nodes/m,
  )
})

test('flush asks for what Cilium asks, of the agent', async () => {
  const asked: string[] = []
  const agent: AgentClient = {
    get: async (path) => [{ path }],
    post: async (path) => {
      asked.push(path)
      return { removed: 6 }
    },
  }
  assert.equal((await dbg('encrypt flush -f', agent)).out, 'All XFRM states and policies have been deleted.\n')
  assert.equal(
    (await dbg('encrypt flush --spi 3 --node kind-worker', agent)).out,
    'Deleted 6 XFRM states.\nDeleted 0 XFRM policies.\n',
  )
  assert.deepEqual(asked, ['/v1/encrypt/flush?', '/v1/encrypt/flush?spi=3&node=kind-worker'])
  assert.match((await dbg('encrypt flush --spi 16', agent)).err, /Given SPI is too big/)
  assert.match((await dbg('encrypt flush --node-id 7', agent)).err, /Unable to parse node ID "7".*--node NAME/)
  assert.deepEqual(JSON.parse((await dbg('encrypt dump-xfrm', agent)).out), [{ path: '/v1/encrypt/xfrm' }])
  assert.match((await dbg('encrypt dump-xfrm --show-keys', agent)).out, /with-keys/)
})

test('endpoints: a table, or Cilium’s objects', async () => {
  const endpoints = [
    {
      status: {
        state: 'ready',
        'external-identifiers': { 'container-id': 'c0ffee', 'pod-name': 'default/xwing' },
        networking: { addressing: [{ ipv4: '10.244.1.7' }], 'interface-name': 'lxc1' },
      },
    },
  ]
  const agent: AgentClient = {
    get: async (path) => (path === '/v1/endpoint' ? endpoints : undefined),
    post: async () => ({}),
  }
  assert.equal(
    (await dbg('endpoint list', agent)).out,
    'ENDPOINT        INTERFACE   IPv6   IPv4         STATUS\ndefault/xwing   lxc1               10.244.1.7   ready\n',
  )
  assert.deepEqual(JSON.parse((await dbg('endpoint list -o json', agent)).out), endpoints)
})
