/**
 * One agent against a real API server and a real kernel: the "node" is a network namespace, the supervisor answers from
 * memory and puts a TUN device where the real one would.
 *
 *     test ── API server (loopback)
 *       │
 *     pa-node: eth0 172.18.0.2, cilium_host 10.244.1.1, cilium_wg0, lxc… ── pa-pod: eth0 10.244.1.2
 */
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { promisify } from 'node:util'
import { parseAllDocuments } from 'yaml'
import { deviceName } from '#apps/agent/cni/pods.ts'
import { NodeAgent } from '#apps/agent/node-agent.ts'
import { agentPaths } from '#apps/agent/paths.ts'
import { SocketAgentClient } from '#apps/dbg/agent-client.ts'
import { CILIUM_NODES, type CiliumNode } from '#core/api/cilium-node.ts'
import { ANNOTATION } from '#core/api/names.ts'
import { NODES } from '#core/api/node.ts'
import { CRDS } from '#core/api/resources.ts'
import type { AgentStatus } from '#core/status/agent-status.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { createLog } from '#io/telemetry/log.ts'
import { UserspaceDatapath } from '#io/userspace/datapath.ts'
import { type ApiServer, missingForApiServer, startApiServer } from '#test/kit/apiserver.ts'
import { FakeNodeRuntime } from '#test/kit/fake-node-runtime.ts'
import { namespacedHost } from '#test/kit/namespaced-host.ts'

const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString()
const inNode = (...command: string[]) => ip('netns', 'exec', 'pa-node', ...command)

const missing = process.getuid?.() !== 0 ? 'root' : existsSync('/dev/net/tun') ? missingForApiServer() : '/dev/net/tun'

suite('one node', { skip: missing === undefined ? false : `needs ${missing}`, timeout: 600_000 }, () => {
  let folder: string
  let apiServer: ApiServer
  let client: KubeClient
  let runtime: FakeNodeRuntime
  let agent: NodeAgent
  const lines: string[] = []

  const startAgent = async () => {
    const paths = {
      ...agentPaths(folder, join(folder, 'config')),
      supervisorSocket: runtime.supervisorSocket,
      controlFolder: runtime.controlFolder,
    }
    agent = new NodeAgent({
      namespace: 'kube-system',
      nodeName: 'pa1',
      paths,
      log: createLog({ write: (line) => lines.push(line) }),
      client: await apiServer.client(),
      ...namespacedHost('/run/netns/pa-node'),
      datapath: new UserspaceDatapath(paths),
      healthPort: undefined,
      metricsPort: undefined,
      end: () => lines.push('ended'),
    })
    await agent.start()
  }
  const status = async () =>
    (await new SocketAgentClient(`${folder}/var/run/cilium/cilium.sock`).get('/v1/healthz')) as AgentStatus
  const until = async (what: string, holds: () => boolean | Promise<boolean>) => {
    for (let tried = 0; !(await holds()); tried++) {
      // 60 s: only to end a test that hangs, with what the agent said
      assert.ok(tried < 600, `${what} did not come about:\n${lines.slice(-20).join('')}`)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
  const own = async () => await client.find(CILIUM_NODES, 'pa1')
  const cni = (command: string, containerId = 'pa-pod') =>
    new Promise<{ exitCode: number; output: unknown }>((resolve, reject) => {
      let answer = ''
      const request = {
        command,
        containerId,
        netns: `/run/netns/${containerId}`,
        ifname: 'eth0',
        args: `K8S_POD_NAMESPACE=test;K8S_POD_NAME=${containerId}`,
        path: '',
        config: { cniVersion: '1.0.0', name: 'cilium', type: 'cilium-cni' },
      }
      const socket = createConnection(`${folder}/var/run/cilium/cni.sock`, () =>
        socket.write(`${JSON.stringify(request)}\n`),
      )
      socket.setEncoding('utf8')
      socket.on('data', (chunk: string) => {
        answer += chunk
      })
      socket.on('end', () => resolve(JSON.parse(answer) as { exitCode: number; output: unknown }))
      socket.on('error', reject)
    })

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'pa-node-'))
    clear()
    ip('netns', 'add', 'pa-node')
    ip('netns', 'add', 'pa-pod')
    ip('-n', 'pa-node', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'far')
    for (const name of ['lo', 'eth0', 'far']) ip('-n', 'pa-node', 'link', 'set', name, 'up')
    ip('-n', 'pa-node', 'addr', 'add', '172.18.0.2/16', 'dev', 'eth0')
    runtime = new FakeNodeRuntime(join(folder, 'runtime'))
    mkdirSync(join(folder, 'runtime'))
    runtime.onDevice = (name, there) => {
      ip('-n', 'pa-node', 'tuntap', there ? 'add' : 'del', name, 'mode', 'tun')
    }
    await runtime.start()
    mkdirSync(join(folder, 'opt/cni/bin'), { recursive: true })
    writeFileSync(join(folder, 'opt/cni/bin/cilium-cni'), 'executable')
    mkdirSync(join(folder, 'config'))
    configure({ 'enable-wireguard': 'true' })
    apiServer = await startApiServer()
    client = await apiServer.client()
    for (const document of parseAllDocuments(readFileSync('deploy/crds/ciliumnodes.yaml', 'utf8'))) {
      await client.create(CRDS, document.toJS() as never)
    }
    await client.create(NODES, {
      metadata: { name: 'pa1' },
      spec: { podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24'] },
    })
    const addresses = [{ type: 'InternalIP', address: '172.18.0.2' }]
    await client.patch(NODES, 'pa1', { status: { addresses } }, { subresource: 'status' })
    await until('the CRD', async () => {
      return await client.list(CILIUM_NODES).then(
        () => true,
        () => false,
      )
    })
  })

  after(async () => {
    await agent?.close().catch(() => undefined)
    await runtime?.stop()
    await apiServer?.stop()
    clear()
    rmSync(folder, { recursive: true, force: true })
  })

  function configure(more: Record<string, string>): void {
    const values = { 'pellicle-cluster-cidrs': '10.244.0.0/16', ...more }
    for (const [key, value] of Object.entries(values)) writeFileSync(join(folder, 'config', key), value)
  }

  test('it programs its node, publishes itself and closes', async () => {
    await startAgent()
    await until('its own words', async () => (await own())?.metadata.annotations?.[ANNOTATION.level]?.[0] === '3')
    const node = (await own()) as CiliumNode
    assert.match(node.metadata.annotations?.[ANNOTATION.publicKey] ?? '', /^[A-Za-z0-9+/]{43}=$/)
    assert.match(node.metadata.annotations?.[ANNOTATION.level] ?? '', /^3\./)
    assert.equal(node.spec.encryption?.key, 255)
    assert.deepEqual(node.spec.addresses, [
      { type: 'InternalIP', ip: '172.18.0.2' },
      { type: 'CiliumInternalIP', ip: '10.244.1.1' },
    ])
    assert.deepEqual(node.spec.ipam?.podCIDRs, ['10.244.1.0/24'])
    assert.match(inNode('ip', '-br', 'addr', 'show', 'dev', 'cilium_host'), /10\.244\.1\.1/)
    assert.match(inNode('ip', 'route', 'show', 'table', 'all', 'proto', '112'), /blackhole 10\.244\.0\.0\/16/)
    await until('the configuration of CNI', () => existsSync(join(folder, 'host/etc/cni/net.d/05-cilium.conflist')))
    await until('its status', async () => (await status()).cilium.state === 'Ok')
    const { encryption } = await status()
    assert.equal(encryption.wireguard?.interfaces[0]?.['public-key'], node.metadata.annotations?.[ANNOTATION.publicKey])
  })

  test('a pod gets an address and reaches its node', async () => {
    const answer = await cni('ADD')
    assert.equal(answer.exitCode, 0, JSON.stringify(answer.output))
    assert.match(JSON.stringify(answer.output), /"10\.244\.1\.2\/32"/)
    assert.match(ip('netns', 'exec', 'pa-pod', 'ping', '-c1', '-w50', '10.244.1.1'), / 1 received/)
    assert.equal((await cni('CHECK')).exitCode, 0)
    assert.deepEqual((await cni('ADD')).output, answer.output)
  })

  test('the executable hands over what a runtime asks, and queues a DEL while no agent answers', async (t) => {
    const program = 'engine/target/release/pellicle-cni'
    if (!existsSync(program)) return t.skip('needs the engine (cargo build --release in engine/)')
    const socket = `${folder}/var/run/cilium/cni.sock`
    const queueDir = `${folder}/var/run/cilium/deletequeue`
    // another process: this one must be free to answer
    const call = async (command: string) =>
      await promisify(execFile)(
        'sh',
        ['-c', `echo '${JSON.stringify({ cniVersion: '1.0.0', name: 'cilium', socket, queueDir })}' | ${program}`],
        {
          env: {
            CNI_COMMAND: command,
            CNI_CONTAINERID: 'pa-exec',
            CNI_NETNS: '/run/netns/pa-exec',
            CNI_IFNAME: 'eth0',
            CNI_PATH: '/opt/cni/bin',
          },
        },
      )
    ip('netns', 'add', 'pa-exec')
    const added = JSON.parse((await call('ADD')).stdout) as { ips: { address: string }[] }
    assert.match(added.ips[0]?.address ?? '', /^10\.244\.1\.\d+\/32$/)
    await agent.close()
    assert.equal((await call('DEL')).stdout, '')
    assert.equal(readdirSync(queueDir).length, 1)
    assert.match(inNode('ip', '-br', 'link'), new RegExp(deviceName('pa-exec', 'eth0')))
    await startAgent()
    await until('the queue', () => readdirSync(queueDir).length === 0)
    assert.ok(!inNode('ip', '-br', 'link').includes(deviceName('pa-exec', 'eth0')))
    await until('level 3', async () => (await status()).cilium.state === 'Ok')
    // the plan without that pod comes a moment after its answer
    await until('no rule for it', () => !inNode('nft', 'list', 'ruleset').includes(deviceName('pa-exec', 'eth0')))
  })

  test('another agent takes over without changing anything, also while the API server is away', async () => {
    const earlier = inNode('nft', '-s', 'list', 'ruleset') + inNode('ip', 'route', 'show', 'table', 'all')
    const version = (await own())?.metadata.resourceVersion
    await agent.close()
    await startAgent()
    await until('level 3', async () => (await status()).cilium.state === 'Ok')
    assert.equal(inNode('nft', '-s', 'list', 'ruleset') + inNode('ip', 'route', 'show', 'table', 'all'), earlier)
    assert.equal((await own())?.metadata.resourceVersion, version, 'nothing was written')
    await apiServer.kill()
    ip('netns', 'add', 'pa-pod2')
    const answer = await cni('ADD', 'pa-pod2')
    assert.equal(answer.exitCode, 0, JSON.stringify(answer.output))
    assert.equal((await cni('DEL', 'pa-pod2')).exitCode, 0)
    await apiServer.start()
  })

  test('a peer with a key becomes a peer of the device; what is wrong with another is told', async () => {
    const peer = (name: string, index: number, key: string): CiliumNode => ({
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumNode',
      metadata: { name, annotations: { [ANNOTATION.publicKey]: key, [ANNOTATION.level]: '3.1' } },
      spec: {
        addresses: [
          { type: 'InternalIP', ip: `172.18.0.${index + 1}` },
          { type: 'CiliumInternalIP', ip: `10.244.${index}.1` },
        ],
        encryption: { key: 255 },
        ipam: { podCIDRs: [`10.244.${index}.0/24`] },
      },
    })
    const told = async () => (await status()).pellicle.problems.join('\n')
    const node = async (name: string, index: number) => {
      await client.create(NODES, { metadata: { name }, spec: { podCIDRs: [`10.244.${index}.0/24`] } })
      const addresses = [{ type: 'InternalIP', address: `172.18.0.${index + 1}` }]
      await client.patch(NODES, name, { status: { addresses } }, { subresource: 'status' })
    }
    await client.create(CILIUM_NODES, peer('pa2', 2, Buffer.alloc(32, 2).toString('base64')))
    await client.create(CILIUM_NODES, peer('pa3', 3, 'nonsense'))
    await until('the missing Nodes', async () => /no Node pa2[^]*no Node pa3/.test(await told()))
    assert.equal(runtime.devices.get('cilium_wg0')?.peers.size, 0)
    await node('pa2', 2)
    await node('pa3', 3)
    await until('one peer', () => runtime.devices.get('cilium_wg0')?.peers.size === 1)
    const there = runtime.devices.get('cilium_wg0')?.peers.get('02'.repeat(32))
    assert.equal(there?.endpoint, '172.18.0.3:51871')
    assert.ok(there?.allowed.has('10.244.2.0/24'))
    await until('the problem', async () => /node pa3 announces a public key/.test(await told()))
    const steered = /10\.244\.2\.0\/24 dev cilium_wg0/
    await until('its route', () => steered.test(inNode('ip', 'route', 'show', 'table', '201')))
  })

  test('DEL gives the address back; asked to clean up, it leaves nothing and says so', async () => {
    await client.patch(CILIUM_NODES, 'pa1', { metadata: { annotations: { [ANNOTATION.cleanup]: 'requested' } } })
    await until('the acknowledgement', async () => (await own())?.metadata.annotations?.[ANNOTATION.cleanup] === 'done')
    const links = inNode('ip', '-br', 'link')
    assert.ok(!/cilium_/.test(links), links)
    assert.match(links, /lxc[0-9a-f]{12}@\S+ +DOWN/, 'a running pod keeps its device, cut off')
    assert.equal(inNode('ip', 'route', 'show', 'table', 'all', 'proto', '112'), '')
    assert.ok(!inNode('ip', 'rule').includes('201'))
    assert.equal(inNode('nft', 'list', 'tables'), '')
    assert.ok(!existsSync(join(folder, 'var/run/cilium/state')))
    assert.ok(!existsSync(join(folder, 'var/run/cilium/deletequeue')))
    assert.ok(!existsSync(join(folder, 'run/pellicle/cilium_wg0')))
    assert.ok(!existsSync(join(folder, 'host/etc/cni/net.d/05-cilium.conflist')))
    assert.equal(runtime.devices.size, 0)
    assert.equal((await cni('ADD', 'pa-pod3')).exitCode, 1)
  })

  test('after the next installation the pod that kept running works again', async () => {
    await agent.close()
    await startAgent()
    await until('level 3', async () => (await status()).pellicle.level === 3)
    await until(
      'the annotation is gone',
      async () => (await own())?.metadata.annotations?.[ANNOTATION.cleanup] === undefined,
    )
    assert.match(ip('netns', 'exec', 'pa-pod', 'ping', '-c1', '-w50', '10.244.1.1'), / 1 received/)
    assert.equal((await cni('DEL')).exitCode, 0)
    assert.ok(!/lxc/.test(inNode('ip', '-br', 'link')))
  })
})

function clear(): void {
  for (const name of ['pa-node', 'pa-pod', 'pa-pod2', 'pa-exec']) {
    try {
      ip('netns', 'del', name)
    } catch {
      // it was not there
    }
  }
}
