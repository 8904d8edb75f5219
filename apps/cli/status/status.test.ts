import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import type { KeyFingerprint } from '#core/ipsec/key.ts'
import { formatIpsecWords, IPSEC_WORDS_ANNOTATION } from '#core/ipsec/words.ts'
import { WaitingClock } from '#test/kit/cli.ts'
import type { KeyCheck } from '../ipsec/key-check.ts'
import { painter } from '../output/colour.ts'
import { computeStatus, problemsOf, type StatusDocument } from './document.ts'
import { agentPod, healthy, REPORTED } from './healthy.fixture.ts'
import type { ClusterObjects } from './objects.ts'
import { formatSummary } from './summary.ts'
import { waitForStatus } from './wait.ts'

const PLAIN = painter(false, {})

function all(objects: ClusterObjects): string[] {
  const { errors, warnings } = problemsOf(computeStatus(objects))
  return [...errors, ...warnings]
}

test('all is well: the layout of Cilium’s CLI, line by line', () => {
  assert.equal(
    formatSummary(computeStatus(healthy()), PLAIN),
    `   ╷ ╷ ╷ ╷
  ╭┴─┴─┴─┴╮   Cilium:             OK
 ─┤ ╭───╮ ├─  Operator:           OK
 ─┤ ╰───╯ ├─  Envoy DaemonSet:    disabled
  ╰┬─┬─┬─┬╯   Hubble Relay:       disabled
   ╵ ╵ ╵ ╵    ClusterMesh:        disabled

DaemonSet              cilium             Desired: 2, Ready: 2/2, Available: 2/2
DaemonSet              pellicle-keeper    Desired: 2, Ready: 2/2, Available: 2/2
Deployment             cilium-operator    Desired: 1, Ready: 1/1, Available: 1/1
Containers:            cilium             Running: 2
                       pellicle-keeper    Running: 2
                       cilium-operator    Running: 1
Cluster Pods:          2/2 managed by Cilium
Encryption:            Wireguard on all 2 nodes
NetworkPolicy:         not enforced
Helm chart version:    0.1.0
Image versions         cilium             localhost/pellicle:0.1.0: 2
                       pellicle-keeper    localhost/pellicle:0.1.0: 2
                       cilium-operator    localhost/pellicle:0.1.0: 1
`,
  )
})

test('the JSON document has the keys of Cilium’s CLI', () => {
  const document = computeStatus(healthy())
  assert.deepEqual(Object.keys(document).sort(), [
    'cilium_status',
    'collection_errors',
    'errors',
    'helm_chart_version',
    'image_count',
    'pellicle_encryption',
    'phase_count',
    'pod_state',
    'pods_count',
  ])
  assert.deepEqual(document.pod_state['cilium'], {
    Type: 'DaemonSet',
    Desired: 2,
    Ready: 2,
    Available: 2,
    Unavailable: 0,
  })
  assert.deepEqual(document.pods_count, { all: 2, by_cilium: 2 })
  assert.deepEqual(document.cilium_status['cilium-a'], REPORTED)
  assert.deepEqual(document.errors, {})
})

const WRONG: [string, (objects: ClusterObjects) => ClusterObjects, RegExp][] = [
  [
    'nothing installed',
    (o) => ({ ...o, daemonSets: [], deployments: [], pods: [], agents: new Map() }),
    /DaemonSet cilium is not there/,
  ],
  [
    'pods missing',
    (o) => ({
      ...o,
      daemonSets: o.daemonSets.map((set) => ({ ...set, status: { ...status(set), numberReady: 1 } })),
    }),
    /1 pods of DaemonSet cilium are not ready/,
  ],
  [
    'a new spec not yet acted on',
    (o) => ({
      ...o,
      daemonSets: o.daemonSets.map((set) => ({ ...set, metadata: { ...set.metadata, generation: 5 } })),
    }),
    /its controller has not acted on it yet/,
  ],
  [
    'a roll-out half way',
    (o) => ({
      ...o,
      daemonSets: o.daemonSets.map((set) => ({ ...set, status: { ...status(set), updatedNumberScheduled: 1 } })),
    }),
    /1 pods of DaemonSet cilium are still to be replaced/,
  ],
  [
    'a crash loop',
    (o) => ({ ...o, pods: [...o.pods, crashing()] }),
    /container cilium-agent is waiting: CrashLoopBackOff \(back-off 10s\), last ended with code 1: Error: pellicle-cluster-cidrs/,
  ],
  [
    'an image that is not there',
    (o) => ({ ...o, pods: [...o.pods, waiting('ErrImageNeverPull', 'not present')] }),
    /ErrImageNeverPull \(not present\)/,
  ],
  [
    'a pod that fits nowhere',
    (o) => ({ ...o, pods: [...o.pods, unscheduled()] }),
    /pod is pending: 0\/2 nodes are available/,
  ],
  [
    'an agent that cannot be reached',
    (o) => ({ ...o, agents: new Map([['cilium-a', { ok: false, error: 'exec in Pod cilium-a: refused' }]]) }),
    /unable to retrieve cilium status: exec in Pod cilium-a: refused/,
  ],
  [
    'an agent that is not well',
    (o) => ({
      ...o,
      agents: new Map([['cilium-a', { ok: true, status: { cilium: { state: 'Failure', msg: 'no datapath' } } }]]),
    }),
    /cilium-agent: Failure \(no datapath\)/,
  ],
  [
    'an answer without any of its parts',
    (o) => ({
      ...o,
      agents: new Map([['cilium-a', { ok: true, status: {} }]]),
      collectionErrors: ['list pods: forbidden'],
    }),
    /list pods: forbidden/,
  ],
  [
    'a node that is not closed yet',
    (o) => ({ ...o, ciliumNodes: o.ciliumNodes.map((node, i) => (i === 0 ? levelled(node, '1.1') : node)) }),
    /Turning Wireguard on: 1 of 2 nodes done \(a: receiving\)/,
  ],
  [
    'a node that has published nothing',
    (o) => ({ ...o, ciliumNodes: o.ciliumNodes.slice(0, 1) }),
    /1 of 2 nodes done \(1 without a CiliumNode\)/,
  ],
  [
    'encryption on its way out',
    (o) => ({ ...o, config: { ...o.config, metadata: { name: 'cilium-config' }, data: {} } }),
    /Turning encryption off: 0 of 2 nodes done \(a: closed, b: closed\)/,
  ],
  [
    'a node that the pool has no pod CIDR for',
    (o) => ({
      ...o,
      ciliumNodes: o.ciliumNodes.map((node, i) =>
        i === 0
          ? { ...node, status: { ipam: { 'operator-status': { error: 'the pool 10.0.0.0/24 is used up' } } } }
          : node,
      ),
    }),
    /the pool 10\.0\.0\.0\/24 is used up/,
  ],
  [
    'a closed node without a key',
    (o) => ({
      ...o,
      ciliumNodes: o.ciliumNodes.map((node) => levelled(node, '3.1', { 'network.cilium.io/wg-pub-key': 'no key' })),
    }),
    /node a has published no public key/,
  ],
]

WRONG.push([
  'a change from one to the other on its way',
  (o) => {
    const stages = ['1.1', '2.1']
    const ciliumNodes = o.ciliumNodes.map((node, n) =>
      levelled(node, '3.1', { 'pellicle.io/encryption-mode': stages[n] ?? '' }),
    )
    return { ...o, config: { metadata: { name: 'cilium-config' }, data: { 'enable-ipsec': 'true' } }, ciliumNodes }
  },
  /Changing to IPsec: 0 of 2 nodes done \(a: Wireguard, receiving both, b: IPsec, receiving both\)/,
])

test('a change from one to the other is no error, but for a key that is missing', () => {
  const objects = WRONG.find(([name]) => name.startsWith('a change from'))?.[1](healthy())
  assert(objects !== undefined)
  assert.deepEqual(problemsOf(computeStatus(objects)).errors, [])
  const check: KeyCheck = { state: 'missing', sentence: 'there is no Secret', command: 'kubectl create' }
  assert.deepEqual(problemsOf(computeStatus({ ...objects, keys: { check, rotation: undefined } })).errors, [
    'a, b wait for an IPsec key: there is no Secret. Create it: kubectl create',
  ])
})

const KEY = { id: 3, fingerprint: '0123456789abcdef' as KeyFingerprint }

function byIpsec(o: ClusterObjects, check: KeyCheck, keyed: readonly string[] = ['a', 'b']): ClusterObjects {
  const words = formatIpsecWords({ receives: [KEY], sends: [KEY] })
  const rotation = { done: false, older: [2], waitingFor: ['b'], text: '1 of 2 nodes receive key 3, waiting for b' }
  return {
    ...o,
    config: { metadata: { name: 'cilium-config' }, data: { 'enable-ipsec': 'true' } },
    keys: { check, rotation: check.state === 'good' ? rotation : undefined },
    ciliumNodes: o.ciliumNodes.map((node) => {
      const says = keyed.includes(node.metadata.name) ? { [IPSEC_WORDS_ANNOTATION]: words } : {}
      return {
        ...node,
        metadata: { ...node.metadata, annotations: { 'pellicle.io/encryption-level': '3.1', ...says } },
      }
    }),
  }
}

WRONG.push(
  [
    'agents that wait for an IPsec key',
    (o) =>
      byIpsec(
        o,
        { state: 'missing', sentence: 'there is no Secret cilium-ipsec-keys', command: 'kubectl create …' },
        [],
      ),
    /a, b wait for an IPsec key: there is no Secret cilium-ipsec-keys\. Create it: kubectl create/,
  ],
  [
    'agents that wait for an IPsec key before they publish anything',
    (o) => ({ ...byIpsec(o, { state: 'missing', sentence: 'there is none', command: 'x' }), ciliumNodes: [] }),
    /2 without a CiliumNode wait for an IPsec key: there is none\. Create it: x/,
  ],
  [
    'a text that is no key, while the one before it goes on',
    (o) => byIpsec(o, { state: 'wrong', sentence: 'Secret x: IPsec key has unsupported format', command: '' }),
    /Secret x: IPsec key has unsupported format/,
  ],
  [
    'one node without the key',
    (o) => byIpsec(o, { state: 'good', key: KEY }, ['a']),
    /b waits for an IPsec key, and no pod there reaches/,
  ],
)

test('IPsec: a rotation is told and is no trouble; keys in files need no Secret', () => {
  const rotating = computeStatus(byIpsec(healthy(), { state: 'good', key: KEY }))
  assert.equal(rotating.pellicle_encryption.phase, 'IPsec on all 2 nodes; 1 of 2 nodes receive key 3, waiting for b')
  assert.deepEqual(problemsOf(rotating), { errors: [], warnings: [] })
  const files = computeStatus(byIpsec(healthy(), { state: 'missing', sentence: '', command: '' }))
  assert.deepEqual(problemsOf(files), { errors: [], warnings: [] })
})

for (const [name, spoil, expected] of WRONG) {
  test(`told: ${name}`, () => {
    const objects = spoil(healthy())
    const found = all(objects)
    assert.ok(
      found.some((text) => expected.test(text)),
      found.join('\n'),
    )
    assert.match(formatSummary(computeStatus(objects), PLAIN), expected)
  })
}

test('pods count as managed by their address in the pod CIDR that their node published', () => {
  const objects = healthy()
  const stranger = {
    metadata: { name: 'x', namespace: 'd' },
    spec: { nodeName: 'a', containers: [] },
    status: { phase: 'Running', podIP: '192.168.7.1' },
  }
  const without = {
    metadata: { name: 'y', namespace: 'd' },
    spec: { nodeName: 'a', containers: [] },
    status: { phase: 'Pending' },
  }
  const done = {
    metadata: { name: 'z', namespace: 'd' },
    spec: { nodeName: 'a', containers: [] },
    status: { phase: 'Succeeded', podIP: '10.244.0.9' },
  }
  const document = computeStatus({ ...objects, pods: [...objects.pods, stranger, without, done] })
  assert.deepEqual(document.pods_count, { all: 4, by_cilium: 2 })
})

test('colours only on a terminal, and never with NO_COLOR', () => {
  const document = computeStatus(healthy())
  const coloured = formatSummary(document, painter(true, {}))
  assert.equal(stripVTControlCharacters(coloured), formatSummary(document, PLAIN))
  assert.notEqual(coloured, formatSummary(document, PLAIN))
  assert.equal(formatSummary(document, painter(true, { NO_COLOR: '1' })), formatSummary(document, PLAIN))
})

test('waiting ends when all is well', async () => {
  const documents = [WRONG[1], WRONG[10]].map((wrong) => computeStatus(wrong?.[1](healthy()) ?? healthy()))
  const seen: StatusDocument[] = []
  const result = await waitForStatus(async () => documents.shift() ?? computeStatus(healthy()), {
    clock: new WaitingClock(),
    duration: 60_000,
    ignoreWarnings: false,
    signal: new AbortController().signal,
    onProgress: (document) => seen.push(document),
  })
  assert.equal(result.fault, undefined)
  assert.equal(seen.length, 3)
})

test('warnings are waited for unless they are ignored', async () => {
  const warned = computeStatus(WRONG[10]?.[1](healthy()) ?? healthy())
  assert.deepEqual(problemsOf(warned).errors, [])
  for (const ignoreWarnings of [true, false]) {
    const result = await waitForStatus(async () => warned, {
      clock: new WaitingClock(),
      duration: 5000,
      ignoreWarnings,
      signal: new AbortController().signal,
    })
    assert.equal(result.fault === undefined, ignoreWarnings)
  }
})

test('when the time is up the fault says what is open, and no more is asked', async () => {
  const clock = new WaitingClock()
  let asked = 0
  const result = await waitForStatus(
    async () => {
      asked++
      return computeStatus(WRONG[1]?.[1](healthy()) ?? healthy())
    },
    { clock, duration: 3000, ignoreWarnings: false, signal: new AbortController().signal },
  )
  assert.match(result.fault?.message ?? '', /^timeout while waiting for status to become successful: 1 pods of/)
  assert.equal(asked, 7)
})

test('an interrupt ends the waiting at once', async () => {
  const abort = new AbortController()
  const clock = new WaitingClock(() => abort.abort(new Error('stopped by SIGINT')))
  const wait = waitForStatus(async () => computeStatus(WRONG[1]?.[1](healthy()) ?? healthy()), {
    clock,
    duration: 60_000,
    ignoreWarnings: false,
    signal: abort.signal,
  })
  await assert.rejects(wait, /stopped by SIGINT/)
})

function status(set: ClusterObjects['daemonSets'][number]) {
  assert(set.status !== undefined)
  return set.status
}

function levelled(node: ClusterObjects['ciliumNodes'][number], level: string, more: Record<string, string> = {}) {
  const annotations = { ...node.metadata.annotations, 'pellicle.io/encryption-level': level, ...more }
  return { ...node, metadata: { ...node.metadata, annotations } }
}

function waiting(reason: string, message: string) {
  const pod = agentPod('c')
  const containerStatuses = [
    {
      name: 'cilium-agent',
      image: '',
      imageID: '',
      ready: false,
      restartCount: 3,
      state: { waiting: { reason, message } },
    },
  ]
  return { ...pod, status: { phase: 'Pending', containerStatuses } }
}

function crashing() {
  const pod = waiting('CrashLoopBackOff', 'back-off 10s')
  const lastState = {
    terminated: { exitCode: 1, message: 'starting\nError: pellicle-cluster-cidrs: it is missing\n\n    at x\n' },
  }
  const containerStatuses = pod.status.containerStatuses.map((container) => ({ ...container, lastState }))
  return { ...pod, status: { phase: 'Running', containerStatuses } }
}

function unscheduled() {
  const conditions = [{ type: 'PodScheduled', status: 'False', message: '0/2 nodes are available' }]
  return { ...agentPod('c'), status: { phase: 'Pending', conditions } }
}
