import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { parseAllDocuments } from 'yaml'
import { CILIUM_NODES, type CiliumNode } from '#core/api/cilium-node.ts'
import { parseConfig } from '#core/api/config.ts'
import { secretOf } from '#core/api/ipsec-secrets.ts'
import { NODES } from '#core/api/node.ts'
import type { KubeObject, Resource } from '#core/api/object.ts'
import { CONFIG_MAPS, CRDS, DAEMON_SETS, DEPLOYMENTS, PODS, SECRETS } from '#core/api/resources.ts'
import { locateHelm } from '#io/helm/locate.ts'
import { currentRelease } from '#io/helm/release.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { type ApiServer, missingForApiServer, startApiServer } from '#test/kit/apiserver.ts'
import { type CliRun, runPellicle } from '#test/kit/cli.ts'
import { findProgram } from '#test/kit/kubernetes-programs.ts'
import { SLOW } from '#test/kit/slow.ts'

/**
 * The cluster CLI against a real kube-apiserver, with the real Helm. No kubelet: agents are played where they answer.
 * Longer than other files: one API server serves all of it, and each test goes on with what those before have installed.
 */

const run = promisify(execFile)
const root = new URL('../..', import.meta.url).pathname
const helm = await locateHelm(process.env).catch(() => undefined)
const missing = missingForApiServer() ?? (helm === undefined ? 'Helm 3.14 or newer' : undefined)
const scope = { namespace: 'kube-system' }
const NAMESPACES: Resource<KubeObject> = { ...NODES, kind: 'Namespace', plural: 'namespaces' }
const SERVICE_ACCOUNTS: Resource<KubeObject> = { ...SECRETS, kind: 'ServiceAccount', plural: 'serviceaccounts' }
const WIREGUARD = ['--set', 'encryption.enabled=true', '--set', 'encryption.type=wireguard']

describe('the cluster CLI', { skip: missing === undefined ? false : `needs ${missing}` }, () => {
  let server: ApiServer
  let client: KubeClient
  const cli = (...args: string[]): Promise<CliRun> =>
    runPellicle(args, {
      env: { PATH: process.env['PATH'], HOME: server.folder, KUBECONFIG: server.kubeconfig, PELLICLE_HELM: helm },
    })

  before(async () => {
    server = await startApiServer({ flags: ['--allow-privileged=true'] })
    client = await server.client()
    for (const index of [0, 1]) {
      await client.create(NODES, { metadata: { name: `node-${index}` }, spec: { podCIDRs: [`10.244.${index}.0/24`] } })
    }
  })
  after(async () => {
    await server?.stop()
  })

  test('a refused installation changes nothing', async () => {
    const count = async () => {
      const lists = await Promise.all(
        [CONFIG_MAPS, DAEMON_SETS, DEPLOYMENTS, SECRETS].map((kind) =>
          client.listAll(kind as Resource<KubeObject>, { allNamespaces: true }),
        ),
      )
      return [...lists, await client.listAll(CRDS)].map(({ items }) => items.map(({ metadata }) => metadata.uid))
    }
    const were = await count()
    const nobodyTells = await cli('install')
    assert.match(nobodyTells.stderr, /pod prefixes are not known.*--set 'pellicle\.clusterCIDRs=/)
    const leftOut = await cli('install', '--set', 'pellicle.clusterCIDRs={10.244.0.0/24}')
    assert.match(leftOut.stderr, /node node-1 has the pod CIDR 10\.244\.1\.0\/24/)
    const noSix = await cli('install', '--set', 'pellicle.clusterCIDRs={10.244.0.0/16},ipv6.enabled=true')
    assert.match(noSix.stderr, /no IPv6 pod prefix/)
    const labels = { app: 'flannel' }
    const template = {
      metadata: { labels },
      spec: { containers: [{ name: 'c', image: 'ghcr.io/flannel-io/flannel:v0.27.0' }] },
    }
    await client.create(DAEMON_SETS, {
      metadata: { name: 'cni', ...scope },
      spec: { selector: { matchLabels: labels }, template },
    })
    const flannel = await cli('install', '--set', 'pellicle.clusterCIDRs={10.244.0.0/16}')
    assert.match(flannel.stderr, /Flannel runs in this cluster already/)
    await client.delete(DAEMON_SETS, 'cni', scope)
    for (const { code, stdout } of [nobodyTells, leftOut, noSix, flannel]) {
      assert.equal(code, 1)
      assert.equal(stdout, '')
    }
    assert.deepEqual(await count(), were)
  })

  test('--dry-run prints the objects and makes none', async () => {
    const data = { ClusterConfiguration: 'networking: {podSubnet: 10.244.0.0/16}\n' }
    await client.create(CONFIG_MAPS, { metadata: { name: 'kubeadm-config', ...scope }, data })
    const { code, stdout, stderr } = await cli('install', '--dry-run', ...WIREGUARD)
    assert.equal(code, 0, stderr)
    const kinds = parseAllDocuments(stdout).map((document) => (document.toJS() as KubeObject).kind)
    assert.ok(kinds.includes('DaemonSet') && kinds.includes('ValidatingAdmissionPolicy'), kinds.join())
    assert.equal((await client.listAll(DAEMON_SETS, scope)).items.length, 0)
  })

  test('IPsec without its Secret: the command to type is told, and a Secret in the wrong namespace is named', async () => {
    const ipsec = ['--set', 'pellicle.clusterCIDRs={10.244.0.0/16}', '--set', 'encryption.enabled=true']
    const name = 'cilium-ipsec-keys'
    const none = await cli('install', '--dry-run', ...ipsec)
    assert.equal(none.code, 0, none.stderr)
    assert.match(none.stderr, /⚠️ {2}There is no Secret cilium-ipsec-keys in namespace kube-system\. Agents wait/)
    const create = `kubectl create -n kube-system secret generic ${name} --from-literal=keys="3+ rfc4106(gcm(aes)) $(dd `
    assert.ok(none.stderr.includes(create), none.stderr)
    const keys = `3 rfc4106(gcm(aes)) ${crypto.getRandomValues(new Uint8Array(20)).toHex()} 128`
    await client.create(SECRETS, secretOf(name, { keys }), { namespace: 'default' })
    const wrong = await cli('install', '--dry-run', ...ipsec)
    assert.match(wrong.stderr, /there is one in namespace default, where no agent looks/)
    await client.create(SECRETS, secretOf(name, { keys: `3 rfc4106(gcm(aes)) ${'ab'.repeat(20)} 128` }), scope)
    assert.match((await cli('install', '--dry-run', ...ipsec)).stderr, /Secret cilium-ipsec-keys .*weak/)
    await client.delete(SECRETS, name, scope)
    await client.create(SECRETS, secretOf(name, { keys }), scope)
    assert.doesNotMatch((await cli('install', '--dry-run', ...ipsec)).stderr, /⚠️/)
    for (const namespace of ['default', 'kube-system']) await client.delete(SECRETS, name, { namespace })
  })

  test('install: the release is a real Helm’s, and its ConfigMap is one that agents start with', async () => {
    const { code, stderr } = await cli('install', '--version', '1.14.5', ...WIREGUARD)
    assert.equal(code, 0, stderr)
    assert.match(stderr, /Cilium 1\.14\.5/)
    assert.match(stderr, /10\.244\.0\.0\/16 \(ConfigMap kubeadm-config\)/)
    const { data = {} } = await client.get(CONFIG_MAPS, 'cilium-config', scope)
    const parsed = parseConfig(data)
    assert(parsed.ok)
    assert.deepEqual(parsed.value.unknown, [])
    assert.equal(parsed.value.config.encryption, 'wireguard')
    assert.equal(parsed.value.config.profile, '1.14.5')
    const list = await run(helm ?? '', ['list', '-n', 'kube-system', '-o', 'json', '--kubeconfig', server.kubeconfig])
    assert.deepEqual(
      (JSON.parse(list.stdout) as { name: string; status: string }[]).map(({ name, status }) => [name, status]),
      [['cilium', 'deployed']],
    )
  })

  test('Helm by hand gives the same objects as install', async () => {
    const manifest = await run(helm ?? '', [
      'get',
      'manifest',
      'cilium',
      '-n',
      'kube-system',
      '--kubeconfig',
      server.kubeconfig,
    ])
    const flags = ['-n', 'kube-system', '--kube-version', '1.34.0', ...WIREGUARD]
    const given = ['--set', 'pellicle.clusterCIDRs={10.244.0.0/16}', '--set', 'pellicle.profile=1.14.5']
    const byHand = await run(helm ?? '', ['template', 'cilium', `${root}deploy/chart`, ...flags, ...given])
    const objects = (text: string) =>
      parseAllDocuments(text)
        .map((document) => document.toJS() as KubeObject)
        .sort((a, b) => `${a.kind}/${a.metadata.name}`.localeCompare(`${b.kind}/${b.metadata.name}`))
    assert.ok(objects(byHand.stdout).length > 15)
    assert.deepEqual(objects(manifest.stdout), objects(byHand.stdout))
  })

  test('install refuses where it is installed; upgrade keeps what was given', async () => {
    assert.match((await cli('install')).stderr, /installed already .* upgrade/)
    const upgraded = await cli('upgrade', '--set', 'encryption.nodeEncryption=true')
    assert.equal(upgraded.code, 0, upgraded.stderr)
    const { data = {} } = await client.get(CONFIG_MAPS, 'cilium-config', scope)
    assert.equal(data['encrypt-node'], 'true')
    assert.equal(data['enable-wireguard'], 'true')
    assert.equal(data['pellicle-profile'], '1.14.5')
    assert.equal((await currentRelease(client, 'cilium', scope))?.revision, 2)
    const wrong = await cli('upgrade', '--set', 'encryption.type=ztunnel')
    assert.match(wrong.stderr, /ztunnel is not built/)
    const reset = await cli('upgrade', '--reset-values')
    assert.equal(reset.code, 0, reset.stderr)
    const without = (await client.get(CONFIG_MAPS, 'cilium-config', scope)).data ?? {}
    assert.equal(without['enable-wireguard'], 'false')
    assert.equal(without['pellicle-cluster-cidrs'], '10.244.0.0/16')
    assert.equal((await cli('upgrade', ...WIREGUARD)).code, 0)
  })

  test('encryption is turned off, and over to IPsec, by helm template and kubectl apply', async (t) => {
    const kubectl = findProgram('kubectl')
    if (kubectl === undefined) return t.skip('needs kubectl')
    const read = async () => {
      const data = (await client.get(CONFIG_MAPS, 'cilium-config', scope)).data ?? {}
      const parsed = parseConfig(data)
      assert.ok(parsed.ok, `what agents would start with: ${JSON.stringify(data)}`)
      const set = await client.get(DAEMON_SETS, 'cilium', scope)
      return { ...parsed.value.config, template: JSON.stringify(set.spec?.template) }
    }
    const apply = async (...set: string[]) => {
      const given = ['pellicle.clusterCIDRs={10.244.0.0/16}', ...set].flatMap((one) => ['--set', one])
      const args = [
        'template',
        'cilium',
        `${root}deploy/chart`,
        '-n',
        'kube-system',
        '--kube-version',
        '1.34.0',
        ...given,
      ]
      const { stdout } = await run(helm ?? '', args)
      const applying = run(kubectl, ['--kubeconfig', server.kubeconfig, 'apply', '-f', '-'])
      applying.child.stdin?.end(stdout)
      await applying
      return await read()
    }
    const before = await read()
    assert.equal(before.encryption, 'wireguard', 'as Helm has installed it')
    const off = await apply('encryption.enabled=false')
    assert.deepEqual([off.encryption, off.nodeEncryption], ['none', false])
    assert.notEqual(off.template, before.template, 'agents are replaced')
    if (!SLOW) return
    const ipsec = await apply('encryption.enabled=true', 'encryption.type=ipsec', 'encryption.nodeEncryption=true')
    assert.deepEqual([ipsec.encryption, ipsec.nodeEncryption], ['ipsec', true])
    const offAgain = await apply('encryption.enabled=false')
    assert.deepEqual([offAgain.encryption, offAgain.nodeEncryption], ['none', false])
    assert.doesNotMatch(offAgain.template, /cilium-ipsec-keys/, 'no agent has the key in its files any more')
  })

  test('Helm by hand does not take away what nodes were given', async () => {
    const data = {
      ipam: 'cluster-pool',
      'cluster-pool-ipv4-cidr': '10.0.0.0/16 10.9.0.0/16',
      'cluster-pool-ipv4-mask-size': '24',
    }
    await client.create(NAMESPACES, { metadata: { name: 'pooled' } })
    await client.create(CONFIG_MAPS, { metadata: { name: 'cilium-config', namespace: 'pooled' }, data })
    const template = async (list: string, more = 'mode=cluster-pool') => {
      const values = [`operator.clusterPoolIPv4PodCIDRList={${list}}`, ...more.split(';')]
      const flags = values.flatMap((value) => ['--set', `ipam.${value}`])
      // the server is asked, and nothing made
      const given = ['--set', 'pellicle.clusterCIDRs={10.0.0.0/8}']
      const where = [
        ...given,
        '-n',
        'pooled',
        '--kubeconfig',
        server.kubeconfig,
        '--dry-run=server',
        '--kube-version',
        '1.34.0',
      ]
      return await run(helm ?? '', ['template', 'cilium', `${root}deploy/chart`, ...where, ...flags])
    }
    await template('10.0.0.0/16,10.9.0.0/16,10.7.0.0/16')
    for (const [list, more, message] of [
      ['10.0.0.0/16', undefined, /clusterPoolIPv4PodCIDRList has no 10\.9\.0\.0\/16 any more/],
      ['10.0.0.0/12,10.9.0.0/16', undefined, /has no 10\.0\.0\.0\/16 any more/],
      ['10.0.0.0/16,10.9.0.0/16', 'mode=cluster-pool;operator.clusterPoolIPv4MaskSize=25', /from 24 to 25/],
      ['', 'mode=kubernetes', /ipam\.mode cannot change from cluster-pool to kubernetes/],
    ] as const) {
      await assert.rejects(template(list, more), { message }, list)
    }
  })

  test('a change of the configuration rolls the agents, and leaves the keepers alone', async () => {
    const templates = async () => {
      const sets = (await client.listAll(DAEMON_SETS, scope)).items
      return new Map(sets.map((set) => [set.metadata.name, JSON.stringify(set.spec?.template)]))
    }
    const were = await templates()
    assert.equal((await cli('upgrade', '--set', 'debug.enabled=true')).code, 0)
    const are = await templates()
    assert.notEqual(are.get('cilium'), were.get('cilium'))
    assert.equal(are.get('pellicle-keeper'), were.get('pellicle-keeper'))
  })

  test('config view, set and delete', async () => {
    const view = await cli('config', 'view')
    assert.match(view.stdout, /^cluster-name +default\n/)
    const keys = view.stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.split(/ +/)[0])
    assert.deepEqual(
      keys,
      keys.toSorted((a = '', b = '') => (a < b ? -1 : 1)),
    )
    const restarted = async () =>
      (await client.get(DAEMON_SETS, 'cilium', scope)).spec?.template.metadata?.annotations?.[
        'kubectl.kubernetes.io/restartedAt'
      ]
    const set = await cli('config', 'set', 'mtu', '1400', '--no-restart')
    assert.equal(
      set.stdout,
      '✨ Patching ConfigMap cilium-config with mtu=1400...\n⚠️  Restart Cilium pods for configmap changes to take effect\n',
    )
    assert.equal(await restarted(), undefined)
    const remove = await cli('config', 'delete', 'mtu')
    assert.equal(remove.stdout, '✨ Removing key mtu from ConfigMap cilium-config...\n♻️  Restarted Cilium pods\n')
    assert.ok(await restarted())
    assert.match((await cli('config', 'set', 'mtu', '12')).stderr, /Unable to set config: {2}.*too little/)
    assert.match((await cli('config', 'set', 'enable-wiregaurd', 'true')).stderr, /Did you mean enable-wireguard\?/)
    assert.match((await cli('config', 'delete', 'pellicle-cluster-cidrs')).stderr, /default route/)
  })

  test('an agent may write its own CiliumNode, and no other', async () => {
    const agent = 'system:serviceaccount:kube-system:cilium'
    const groups = ['system:serviceaccounts', 'system:authenticated']
    const own = await server.as(agent, groups, { 'authentication.kubernetes.io/node-name': ['node-0'] })
    const nameless = await server.as(agent, groups)
    const node = (name: string): CiliumNode => ({ metadata: { name }, spec: {} })
    const options = { fieldManager: 'test', force: true }
    // the policy is in force a moment after it was made
    await until(
      async () =>
        await own.apply(CILIUM_NODES, node('node-1'), options).then(
          () => false,
          (error: Error) => /may write only its own CiliumNode, not node-1/.test(error.message),
        ),
    )
    await own.apply(CILIUM_NODES, node('node-0'), options)
    await own.patch(CILIUM_NODES, 'node-0', { metadata: { annotations: { x: 'y' } } })
    await assert.rejects(nameless.apply(CILIUM_NODES, node('node-0'), options), /may write only its own/)
    await client.apply(CILIUM_NODES, node('node-1'), options)
    await assert.rejects(own.patch(CILIUM_NODES, 'node-1', { spec: {} }), /not node-1/)
    await assert.rejects(own.delete(CILIUM_NODES, 'node-0'), { code: 'kube.forbidden' })
    await assert.rejects(own.listAll(SECRETS, scope), { code: 'kube.forbidden' })
    assert.equal((await own.listAll(CILIUM_NODES)).items.length, 2)
  })

  test('uninstall waits for every node, and tells who does not answer', async () => {
    const failing = await cli('uninstall', '--wait-duration', '1s')
    assert.equal(failing.code, 1)
    assert.match(failing.stderr, /no answer from node-0, node-1.*--force/)
    await acknowledge(client, 'node-0', 'done')
    await acknowledge(client, 'node-1', 'failed: cannot remove cilium_wg0')
    const failed = await cli('uninstall', '--wait-duration', '1s')
    assert.ok(/no answer from node-1|node-1: cannot remove/.test(failed.stderr), failed.stderr)
    assert.ok(await client.find(DAEMON_SETS, 'cilium', scope))
    // an upgrade takes the request back
    assert.equal((await cli('upgrade')).code, 0)
    for (const { metadata } of (await client.listAll(CILIUM_NODES)).items) {
      assert.equal(metadata.annotations?.['pellicle.io/cleanup'], undefined)
    }
  })

  test('after a bare helm uninstall the nodes are still known, and uninstall says what to do', async () => {
    await run(helm ?? '', ['uninstall', 'cilium', '-n', 'kube-system', '--kubeconfig', server.kubeconfig])
    assert.equal((await client.listAll(CILIUM_NODES)).items.length, 2)
    const { code, stderr } = await cli('uninstall')
    assert.equal(code, 1)
    assert.match(stderr, /not cleaned and are closed: node-0, node-1.*install and then pellicle uninstall/)
    // what an uninstall before it asked for is taken back
    await acknowledge(client, 'node-0', 'requested')
    assert.equal((await cli('install', ...WIREGUARD)).code, 0)
    for (const { metadata } of (await client.listAll(CILIUM_NODES)).items) {
      assert.equal(metadata.annotations?.['pellicle.io/cleanup'], undefined)
    }
  })

  test('uninstall --force leaves the trace of closed nodes, so that the next installation knows them as ours', async () => {
    const forced = await cli('uninstall', '--force', '--wait-duration', '1s')
    assert.equal(forced.code, 0, forced.stderr)
    assert.match(forced.stderr, /Release cilium is deleted[\s\S]*CRD .* stays: .*node-0, node-1/)
    assert.equal((await cli('uninstall', '--force')).code, 0)
    assert.equal((await client.listAll(CILIUM_NODES)).items.length, 2)
    // what a closed node looks like from outside
    const status = { conditions: [{ type: 'Ready', status: 'True' }] }
    for (const node of ['node-0', 'node-1']) {
      await client.patch(NODES, node, { status }, { subresource: 'status', kind: 'strategic' })
    }
    const spec = { nodeName: 'node-0', containers: [{ name: 'a', image: 'a' }] }
    // no controller manager runs here that would make it
    await client.create(SERVICE_ACCOUNTS, { metadata: { name: 'default', namespace: 'kube-system' } })
    await client.create(PODS, { metadata: { name: 'runs', namespace: 'kube-system' }, spec })
    const running = { status: { phase: 'Running', podIP: '10.244.0.7', podIPs: [{ ip: '10.244.0.7' }] } }
    await client.patch(PODS, 'runs', running, { ...scope, subresource: 'status', kind: 'strategic' })
    const again = await cli('install', ...WIREGUARD)
    assert.equal(again.code, 0, again.stderr)
    await client.delete(PODS, 'runs', { ...scope, gracePeriodSeconds: 0 })
  })

  test('uninstall: nodes first, then the release, then the CRD; nothing is left', async () => {
    const agents = new AbortController()
    const playing = playAgents(client, agents.signal)
    const { code, stderr } = await cli('uninstall')
    agents.abort()
    await playing
    assert.equal(code, 0, stderr)
    assert.match(
      stderr,
      /2 nodes are clean[\s\S]*Release cilium is deleted[\s\S]*CRD ciliumnodes\.cilium\.io is deleted/,
    )
    for (const kind of [DAEMON_SETS, DEPLOYMENTS, SECRETS]) {
      assert.deepEqual((await client.listAll(kind as Resource<KubeObject>, scope)).items, [])
    }
    await until(async () => (await client.find(CRDS, 'ciliumnodes.cilium.io')) === undefined)
    assert.match((await cli('uninstall')).stderr, /Nothing is installed/)
  })
})

async function acknowledge(client: KubeClient, node: string, answer: string): Promise<void> {
  await client.patch(CILIUM_NODES, node, { metadata: { annotations: { 'pellicle.io/cleanup': answer } } })
}

/** Answers every request as agents do. */
async function playAgents(client: KubeClient, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const nodes = await client.listAll(CILIUM_NODES).catch(() => ({ items: [] as readonly CiliumNode[] }))
    for (const { metadata } of nodes.items) {
      if (metadata.annotations?.['pellicle.io/cleanup'] === 'requested')
        await acknowledge(client, metadata.name, 'done')
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

async function until(check: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (await check()) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  assert.fail('it did not come to that within a minute')
}
