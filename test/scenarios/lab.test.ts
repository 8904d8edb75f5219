import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { after, before, suite, test } from 'node:test'
import { promisify } from 'node:util'
import { machineHierarchies, processesOf } from '#apps/lab/cgroups.ts'
import { labPaths, nodePaths, stateFolder } from '#apps/lab/paths.ts'
import { KUBERNETES_VERSION } from '#apps/lab/programs/pins.ts'
import { readState, requireUp, writeState } from '#apps/lab/state.ts'
import { eventually } from '#test/kit/lab.ts'

// The lab by its own commands, as a person calls them.
const root = new URL('../..', import.meta.url).pathname
const pellicle = `${root}bin/pellicle`
const name = 'labtest'
const run = promisify(execFile)

const skip = process.getuid?.() === 0 ? false : 'needs root'

/** Numbers of all namespaces that some process is in; one that only waits to be collected is in none. */
function namespaces(): Set<string> {
  const found = new Set<string>()
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    if (isZombie(pid)) continue
    for (const kind of ['mnt', 'uts', 'net', 'pid', 'ipc', 'cgroup']) {
      try {
        found.add(readlinkSync(`/proc/${pid}/ns/${kind}`))
      } catch {
        // it ended meanwhile
      }
    }
  }
  return found
}

function isZombie(pid: string): boolean {
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return true
  }
}

/** What the lab's own processes are in, without what the machine itself uses. */
function labNamespaces(): string[] {
  const own = new Set(
    ['mnt', 'uts', 'net', 'pid', 'ipc', 'cgroup'].map((kind) => readlinkSync(`/proc/self/ns/${kind}`)),
  )
  const found = new Set<string>()
  for (const pid of processesOf(machineHierarchies(), name)) {
    for (const kind of ['mnt', 'uts', 'net', 'pid', 'ipc', 'cgroup']) {
      try {
        const namespace = readlinkSync(`/proc/${pid}/ns/${kind}`)
        if (!own.has(namespace)) found.add(namespace)
      } catch {
        // it ended meanwhile
      }
    }
  }
  return [...found]
}

function assertNothingLeft(were: readonly string[]): void {
  const paths = labPaths(stateFolder(), name)
  assert.deepEqual(processesOf(machineHierarchies(), name), [], 'processes')
  const { mounts, top } = machineHierarchies()
  for (const { folder } of mounts) {
    assert.ok(!existsSync(`${folder}/${top}/${name}`), `the cgroup ${folder}/${top}/${name}`)
  }
  assert.ok(!existsSync(paths.folder), 'the folder')
  assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(paths.folder), 'mounts')
  const now = namespaces()
  assert.deepEqual(
    were.filter((namespace) => now.has(namespace)),
    [],
    'namespaces',
  )
}

function startUp(...flags: string[]): ChildProcess {
  return spawn(pellicle, ['lab', 'up', '--name', name, '--nodes', '2', ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
}

/** Resolves when `child` has said `words`; goes on reading, since a closed pipe would be a failure of its own. */
async function said(child: ChildProcess, words: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let all = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    all += chunk.toString()
    if (all.includes(words)) resolve()
  })
  child.on('close', () => reject(new Error(`it never said "${words}", but: ${all}`)))
  await promise
}

suite('a lab is a real cluster and leaves nothing behind', { skip }, () => {
  before(async () => void (await run(pellicle, ['lab', 'down', '--name', name])))
  after(async () => void (await run(pellicle, ['lab', 'down', '--name', name])))

  test('up registers four nodes that wait for a CNI, and again is a no-op', async () => {
    const started = performance.now()
    await run(pellicle, ['lab', 'up', '--name', name])
    console.log(`lab up: ${((performance.now() - started) / 1000).toFixed(1)} s`)
    const kubectl = await clusterCommand()
    const { items } = JSON.parse(await kubectl('get', 'nodes', '-o', 'json')) as { items: NodeObject[] }
    assert.deepEqual(
      items.map(({ metadata, spec }) => [metadata.name, spec.podCIDR]),
      [
        [`${name}-control-plane`, '10.244.0.0/24'],
        [`${name}-worker`, '10.244.1.0/24'],
        [`${name}-worker2`, '10.244.2.0/24'],
        [`${name}-worker3`, '10.244.3.0/24'],
      ],
    )
    for (const { metadata, status, spec } of items) {
      assert.equal(status.nodeInfo.kubeletVersion, `v${KUBERNETES_VERSION}`)
      assert.equal(status.conditions.find(({ type }) => type === 'Ready')?.status, 'False', metadata.name)
      const taints = (spec.taints ?? []).map(({ key }) => key)
      assert.ok(!taints.includes('node-role.kubernetes.io/control-plane'), 'the control plane also runs pods')
    }
    const again = await run(pellicle, ['lab', 'up', '--name', name])
    assert.match(again.stderr, /is up already/)
    assert.doesNotMatch(again.stderr, /Starting/)
  })

  test('nodes have their own names, no CNI configuration, and what kubeadm would have left is there', async () => {
    const inNode = async (...command: string[]): Promise<string> =>
      (await run(pellicle, ['lab', 'exec', '--name', name, 'worker2', '--', ...command])).stdout.trim()
    assert.equal(await inNode('uname', '-n'), `${name}-worker2`)
    assert.equal(await inNode('cat', '/etc/hostname'), `${name}-worker2`)
    assert.equal(await inNode('ls', '/etc/cni/net.d'), '')
    assert.equal(await inNode('ls', '/opt/cni/bin'), 'loopback')
    assert.match(await inNode('ping', '-c1', '-w60', `${name}-worker3`), /1 received/)
    const kubectl = await clusterCommand()
    assert.match(
      await kubectl('-n', 'kube-system', 'get', 'cm', 'kubeadm-config', '-o', 'yaml'),
      /podSubnet: 10\.244\.0\.0\/16/,
    )
    assert.equal(
      await kubectl('-n', 'kube-system', 'get', 'svc', 'kube-dns', '-o', 'jsonpath={.spec.clusterIP}'),
      '10.96.0.10',
    )
  })

  test('a pod on the host network runs from a local image under the name of its node', async () => {
    const kubectl = await clusterCommand()
    const overrides = {
      spec: {
        nodeName: `${name}-worker`,
        hostNetwork: true,
        tolerations: [{ operator: 'Exists' }],
        terminationGracePeriodSeconds: 0,
      },
    }
    const image = `localhost/pellicle-examples:${version()}`
    const options = [
      `--image=${image}`,
      '--restart=Never',
      '-n',
      'kube-system',
      `--overrides=${JSON.stringify(overrides)}`,
    ]
    await kubectl('run', 'probe', ...options, '--command', '--', 'sleep', 'infinity')
    await kubectl('-n', 'kube-system', 'wait', '--for=condition=Ready', 'pod/probe', '--timeout=240s')
    assert.equal((await kubectl('-n', 'kube-system', 'exec', 'probe', '--', 'uname', '-n')).trim(), `${name}-worker`)
  })

  test('a node that was cut off comes back', async () => {
    const workerRuns = async (): Promise<boolean | undefined> =>
      (await labStatus()).nodes.find((node) => node.name === `${name}-worker`)?.running
    await run(pellicle, ['lab', 'node', 'kill', 'worker', '--name', name])
    assert.equal(await workerRuns(), false)
    await run(pellicle, ['lab', 'node', 'start', 'worker', '--name', name])
    assert.equal(await workerRuns(), true)
    // the kubelet is back when it tells that the pod, which is not to be restarted, has ended
    const kubectl = await clusterCommand()
    await kubectl('-n', 'kube-system', 'wait', '--for=jsonpath={.status.phase}=Failed', 'pod/probe', '--timeout=240s')
  })

  test('a shell has the cluster, and its exit code is ours', async () => {
    const child = spawn(pellicle, ['lab', 'shell', '--name', name], { stdio: ['pipe', 'pipe', 'pipe'] })
    const closed = once(child, 'close')
    child.stdin.end('pwd; echo $PELLICLE_LAB; type -p cilium pellicle; kubectl get nodes -o name; exit 7\n')
    const [printed, wrong] = await Promise.all([text(child.stdout), text(child.stderr)])
    assert.deepEqual(await closed, [7, null], wrong)
    const nodes = ['control-plane', 'worker', 'worker2', 'worker3'].map((node) => `node/${name}-${node}`)
    assert.deepEqual(printed.trim().split('\n'), [
      `${root}examples`,
      name,
      `${root}bin/cilium`,
      `${root}bin/pellicle`,
      ...nodes,
    ])
  })

  test('a node that is shut down asks its services to end first, and is off', async () => {
    const exec = async (...command: string[]): Promise<string> =>
      (await run(pellicle, ['lab', 'exec', '--name', name, 'worker2', '--', ...command])).stdout.trim()
    await exec('touch', '/root/kept')
    await run(pellicle, ['lab', 'node', 'stop', 'worker2', '--name', name])
    const log = readFileSync(
      `${nodePaths(labPaths(stateFolder(), name), `${name}-worker2`).log}/containerd.log`,
      'utf8',
    )
    assert.match(log, /Stop CRI service/)
    assert.equal((await labStatus()).nodes.find((node) => node.name === `${name}-worker2`)?.running, false)
    await assert.rejects(
      exec('true'),
      new RegExp(`the node ${name}-worker2 is not running.*lab node start ${name}-worker2`),
    )
  })

  test('load gives running nodes the images that they lack, and one that was off, with its disk, at the next call', async () => {
    const paths = labPaths(stateFolder(), name)
    const image = `localhost/pellicle-examples:${version()}`
    const images = ['ctr', '-n', 'k8s.io', 'images']
    const load = async (): Promise<string> => (await run(pellicle, ['lab', 'load', '--name', name])).stderr
    assert.match(await load(), /The nodes have the newest images\./)
    // as after a `make setup` that made this image anew
    await run(pellicle, ['lab', 'exec', '--name', name, 'worker3', '--', ...images, 'rm', image])
    writeState(paths, { ...requireUp(paths, name).state, loaded: 'an older store' })
    const told = await load()
    assert.match(told, new RegExp(`${name}-worker3: ${image} \\(\\d+ KiB\\)`))
    assert.match(told, new RegExp(`${name}-worker: nothing new`))
    assert.doesNotMatch(told, new RegExp(`${name}-worker2`))
    await run(pellicle, ['lab', 'exec', '--name', name, 'worker3', '--', ...images, 'check', `name==${image}`])
    await run(pellicle, ['lab', 'node', 'start', 'worker2', '--name', name])
    await run(pellicle, ['lab', 'exec', '--name', name, 'worker2', '--', 'test', '-e', '/root/kept'])
    // its containerd is started just now
    const later = await eventually('the node that was off is asked', 120, load)
    assert.match(later, new RegExp(`${name}-worker2: nothing new`))
    assert.match(await load(), /The nodes have the newest images\./)
  })

  test('a service that is killed is started again', async () => {
    const kubelet = async (): Promise<string> =>
      (await run(pellicle, ['lab', 'exec', '--name', name, 'worker3', '--', 'pidof', 'kubelet'])).stdout.trim()
    const first = await kubelet()
    await run(pellicle, ['lab', 'exec', '--name', name, 'worker3', '--', 'kill', '-9', first])
    let next = ''
    while (next === '' || next === first) next = await kubelet().catch(() => '')
    assert.notEqual(next, first)
  })

  test('down leaves nothing', async () => {
    const were = labNamespaces()
    assert.ok(were.length >= 4 * 6, `${were.length} namespaces`)
    await run(pellicle, ['lab', 'down', '--name', name])
    assertNothingLeft(were)
    await run(pellicle, ['lab', 'down', '--name', name])
  })

  test('an up that is interrupted undoes itself', async () => {
    const child = startUp()
    const closed = new Promise<number | null>((resolve) => child.on('close', resolve))
    await said(child, '• Starting the control plane')
    const were = labNamespaces()
    assert.ok(were.length > 0)
    child.kill('SIGINT')
    assert.notEqual(await closed, 0)
    assertNothingLeft(were)
  })

  test('with --retain an up that is interrupted leaves what it made, to be looked at', async () => {
    const child = startUp('--retain')
    const closed = once(child, 'close')
    await said(child, '• Starting the control plane')
    const kept = said(child, 'kept as it is in')
    child.kill('SIGINT')
    await kept
    assert.notDeepEqual(await closed, [0, null])
    const were = labNamespaces()
    assert.ok(were.length >= 2 * 6, `${were.length} namespaces`)
    await run(pellicle, ['lab', 'down', '--name', name])
    assertNothingLeft(were)
  })

  test('after a crash of up, down removes what it left, and up makes it anew', async () => {
    const child = startUp()
    const closed = new Promise((resolve) => child.on('close', resolve))
    await said(child, '• Starting the control plane')
    const were = labNamespaces()
    const state = readState(labPaths(stateFolder(), name))
    assert.ok(state !== undefined, 'its state is on disk')
    process.kill(state.creator.pid, 'SIGKILL')
    await closed
    assert.ok(processesOf(machineHierarchies(), name).length > 0)
    await run(pellicle, ['lab', 'down', '--name', name])
    assertNothingLeft(were)
  })
})

interface NodeObject {
  readonly metadata: { readonly name: string }
  readonly spec: { readonly podCIDR: string; readonly taints?: readonly { readonly key: string }[] }
  readonly status: {
    readonly nodeInfo: { readonly kubeletVersion: string }
    readonly conditions: readonly { readonly type: string; readonly status: string }[]
  }
}

async function labStatus(): Promise<{ nodes: { name: string; running: boolean }[] }> {
  const { stdout } = await run(pellicle, ['lab', 'status', '--name', name, '-o', 'json'])
  return JSON.parse(stdout) as { nodes: { name: string; running: boolean }[] }
}

/** kubectl as `lab env` sets it up. */
async function clusterCommand(): Promise<(...args: string[]) => Promise<string>> {
  const { stdout } = await run(pellicle, ['lab', 'env', '--name', name])
  return async (...args) =>
    (await run('bash', ['-c', `${stdout}\nexec kubectl "$@"`, 'bash', ...args], { maxBuffer: 1 << 26 })).stdout
}

function version(): string {
  return (JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { version: string }).version
}
