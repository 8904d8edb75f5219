import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { announceNode, CILIUM_NODES, type CiliumNode } from '#core/api/cilium-node.ts'
import { NODES } from '#core/api/node.ts'
import { CONFIG_MAPS, LEASES } from '#core/api/resources.ts'
import { parseIp } from '#core/ip/address.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { hasCode } from '#io/kube/errors.ts'
import { EventRecorder } from '#io/kube/events.ts'
import { Informer } from '#io/kube/informer.ts'
import { runAsLeader } from '#io/kube/leader.ts'
import { apiSuite, until } from '#test/kit/api-suite.ts'
import type { ApiServer } from '#test/kit/apiserver.ts'

/** Everything in io/kube against a real etcd and kube-apiserver. */
let server: ApiServer
let client: KubeClient
const real = apiSuite((made) => {
  ;({ server, client } = made)
})

const ciliumNode = (name: string, key = 255): CiliumNode =>
  announceNode({
    name,
    nodeUid: '11111111-1111-1111-1111-111111111111',
    nodeIps: [parseIp('172.18.0.3')!],
    internalIps: [parseIp('10.244.1.1')!],
    podCidrs: [],
    bootId: 'b',
    publicKey: undefined,
    keyId: key,
    announcement: undefined,
  })

real('an object is created, read, changed and deleted', async () => {
  const made = await client.create(CONFIG_MAPS, { metadata: { name: 'crud' }, data: { a: '1', b: '2' } })
  assert.equal(made.metadata.namespace, 'default')
  await client.patch(CONFIG_MAPS, 'crud', { data: { a: null, c: '3' } })
  assert.deepEqual((await client.get(CONFIG_MAPS, 'crud')).data, { b: '2', c: '3' })
  await client.patch(CONFIG_MAPS, 'crud', [{ op: 'add', path: '/data/d', value: '4' }], { kind: 'json' })
  await client.patch(CONFIG_MAPS, 'crud', { data: { e: '5' } }, { kind: 'strategic' })
  assert.deepEqual(Object.keys((await client.get(CONFIG_MAPS, 'crud')).data ?? {}).toSorted(), ['b', 'c', 'd', 'e'])
  assert.equal(await client.delete(CONFIG_MAPS, 'crud'), true)
  assert.equal(await client.delete(CONFIG_MAPS, 'crud'), false)
  assert.equal(await client.find(CONFIG_MAPS, 'crud'), undefined)
})

real('of two writers with the same version one gets a conflict', async () => {
  const made = await client.create(CONFIG_MAPS, { metadata: { name: 'race' }, data: {} })
  await client.replace(CONFIG_MAPS, { ...made, data: { first: '' } })
  await assert.rejects(client.replace(CONFIG_MAPS, { ...made, data: { second: '' } }), (error) =>
    hasCode(error, 'kube.conflict'),
  )
  await assert.rejects(client.create(CONFIG_MAPS, { metadata: { name: 'race' } }), (error) =>
    hasCode(error, 'kube.already-exists'),
  )
  await assert.rejects(
    client.delete(CONFIG_MAPS, 'race', { preconditions: { uid: '22222222-2222-2222-2222-222222222222' } }),
    (error) => hasCode(error, 'kube.conflict'),
  )
})

real('apply owns its fields: it removes what it no longer says and keeps what others said', async () => {
  const apply = (key: number) =>
    client.apply(CILIUM_NODES, ciliumNode('applied', key), { fieldManager: 'agent', force: true })
  assert.equal((await apply(255)).spec.encryption?.key, 255)
  await client.patch(CILIUM_NODES, 'applied', { metadata: { annotations: { 'pellicle.io/cleanup': 'requested' } } })
  const later = await apply(0)
  assert.equal(later.spec.encryption, undefined)
  assert.equal(later.metadata.annotations?.['pellicle.io/cleanup'], 'requested')
  await assert.rejects(
    client.apply(CILIUM_NODES, { ...ciliumNode('applied'), spec: { bootid: 'other' } }, { fieldManager: 'another' }),
    (error) => hasCode(error, 'kube.conflict'),
  )
})

real(
  'the CRD refuses what is malformed by its field, keeps what it does not know, and has a status of its own',
  async () => {
    const wrong = { ...ciliumNode('wrong'), spec: { encryption: { key: 256 } } }
    await assert.rejects(
      client.create(CILIUM_NODES, wrong),
      (error) => hasCode(error, 'kube.invalid') && String(error).includes('spec.encryption.key'),
    )
    await assert.rejects(client.create(CILIUM_NODES, { ...wrong, spec: { addresses: 'x' } } as never), (error) =>
      hasCode(error, 'kube.invalid'),
    )
    const kept = { ...ciliumNode('kept'), spec: { eni: { vpc: 'v' }, ipam: { podCIDRs: [], pool: { a: {} } } } }
    const made = await client.create(CILIUM_NODES, kept)
    assert.deepEqual(made.spec, kept.spec)
    const withStatus = await client.patch(
      CILIUM_NODES,
      'kept',
      { status: { ipam: {} }, spec: { eni: null } },
      { subresource: 'status' },
    )
    assert.deepEqual(withStatus.status, { ipam: {} })
    assert.deepEqual(withStatus.spec['eni'], { vpc: 'v' })
  },
)

real('kubectl get shows the columns that people know', async () => {
  await client.apply(CILIUM_NODES, ciliumNode('columns'), { fieldManager: 'agent' })
  const response = await client.transport.send({
    method: 'GET',
    path: '/apis/cilium.io/v2/ciliumnodes/columns',
    action: 'table',
    headers: { Accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' },
  })
  const table = JSON.parse(Buffer.concat(await Array.fromAsync(response as AsyncIterable<Buffer>)).toString()) as {
    columnDefinitions: { name: string }[]
    rows: { cells: unknown[] }[]
  }
  assert.deepEqual(
    table.columnDefinitions.map((column) => column.name),
    ['Name', 'CiliumInternalIP', 'InternalIP', 'Age'],
  )
  assert.deepEqual(table.rows[0]?.cells.slice(0, 3), ['columns', '10.244.1.1', '172.18.0.3'])
  const served = await client.request<{ resources: { name: string; shortNames?: string[] }[] }>({
    method: 'GET',
    path: '/apis/cilium.io/v2',
  })
  assert.deepEqual(served.resources.find(({ name }) => name === 'ciliumnodes')?.shortNames, ['cn', 'ciliumn'])
})

real('more objects than one page come all', async () => {
  const names = Array.from({ length: 620 }, (_, i) => `many-${i}`)
  for (let i = 0; i < names.length; i += 40) {
    await Promise.all(
      names.slice(i, i + 40).map((name) => client.create(CONFIG_MAPS, { metadata: { name, labels: { many: '' } } })),
    )
  }
  const { items } = await client.listAll(CONFIG_MAPS, { labelSelector: 'many' })
  assert.equal(new Set(items.map((item) => item.metadata.name)).size, 620)
})

real('events become a series, and cannot be in the way', async () => {
  const failures: unknown[] = []
  const recorder = new EventRecorder(client, 'pellicle.io/test', (error) => failures.push(error))
  const note = {
    regarding: { apiVersion: 'v1', kind: 'Node', name: 'n1' },
    type: 'Warning',
    reason: 'Testing',
    action: 'Check',
    note: 'ß'.repeat(2000),
  } as const
  await recorder.record(note)
  await recorder.record(note)
  assert.deepEqual(failures, [])
  const { items } = await client.request<{ items: { reason: string; note: string; regarding: { name: string } }[] }>({
    method: 'GET',
    path: '/apis/events.k8s.io/v1/namespaces/default/events',
  })
  const ours = items.filter((event) => event.reason === 'Testing')
  assert.equal(ours.length, 1)
  assert.ok(Buffer.byteLength(ours[0]?.note ?? '') <= 1024)
  await recorder.record({
    ...note,
    regarding: { ...note.regarding, namespace: 'there-is-none' },
    reason: 'No Such: Reason'.repeat(20),
  })
  assert.equal(failures.length, 1)
})

real('a forbidden request says who may not do what', async () => {
  const nobody = await server.as('nobody')
  await assert.rejects(
    nobody.get(NODES, 'x'),
    (error) => hasCode(error, 'kube.forbidden') && /User "nobody" cannot get/.test(String(error)),
  )
})

real('of two candidates one leads; it gives the lease back, or loses it, and the other takes over', async () => {
  const log: string[] = []
  let both = 0
  let most = 0
  const stop = { a: new AbortController(), b: new AbortController() }
  const candidate = (name: 'a' | 'b') =>
    runAsLeader(
      client,
      {
        namespace: 'kube-system',
        name: 'test-lease',
        identity: name,
        // more than a busy machine may hold up who leads
        leaseMs: 60_000,
        renewDeadlineMs: 40_000,
        retryMs: 150,
      },
      async (signal) => {
        log.push(`${name} leads`)
        most = Math.max(most, ++both)
        while (!signal.aborted) await sleep(20)
        both--
        log.push(`${name} ends`)
      },
      stop[name].signal,
    )
  const a = candidate('a')
  await until(() => log.includes('a leads'))
  const b = candidate('b')
  await sleep(600)
  assert.deepEqual(log, ['a leads'])
  stop.a.abort()
  await a
  await until(() => log.includes('b leads'))
  assert.deepEqual(log, ['a leads', 'a ends', 'b leads'])
  // somebody takes the lease by force: b must notice and end
  const lease = await client.get(LEASES, 'test-lease', { namespace: 'kube-system' })
  await client.patch(
    LEASES,
    'test-lease',
    { spec: { holderIdentity: 'thief', leaseDurationSeconds: 1 } },
    { namespace: 'kube-system' },
  )
  await until(() => log.includes('b ends'))
  // the thief says nothing more: b has the lease again
  await until(() => log.filter((line) => line === 'b leads').length >= 2)
  stop.b.abort()
  await b
  assert.equal(most, 1)
  const given = await client.get(LEASES, 'test-lease', { namespace: 'kube-system' })
  assert.equal(given.spec?.holderIdentity, '')
  assert.ok((given.spec?.leaseTransitions ?? 0) > (lease.spec?.leaseTransitions ?? 0))
})

real('a leader that cannot renew stops before another may begin', async () => {
  const own = await server.client()
  const log: string[] = []
  const stop = new AbortController()
  const leading = runAsLeader(
    own,
    { namespace: 'kube-system', name: 'cut-off', identity: 'x', leaseMs: 6000, renewDeadlineMs: 3000, retryMs: 100 },
    async (signal) => {
      log.push('leads')
      while (!signal.aborted) await sleep(10)
      log.push('ends')
    },
    stop.signal,
  )
  await until(() => log.includes('leads'))
  await server.kill()
  await until(() => log.at(-1) === 'ends')
  await server.start()
  await until(() => log.at(-1) === 'leads')
  stop.abort()
  await leading
})

real('an informer keeps its copy while the API server is away and catches up when it is back', async () => {
  const seen: string[] = []
  const informer = new Informer(client, CONFIG_MAPS, {
    labelSelector: 'watched',
    onChange: ({ type, object }) => seen.push(`${type} ${object.metadata.name}`),
  }).start()
  await informer.synced
  const make = (name: string) => client.create(CONFIG_MAPS, { metadata: { name, labels: { watched: '' } } })
  await make('w1')
  await until(() => seen.length === 1)
  await server.kill()
  await until(() => informer.health().staleMs > 0)
  assert.equal(informer.list().length, 1)
  await server.start()
  await make('w2')
  await client.delete(CONFIG_MAPS, 'w1')
  await until(() => seen.length === 3)
  // both at once if it looked at everything again
  assert.equal(seen[0], 'added w1')
  assert.deepEqual(seen.toSorted(), ['added w1', 'added w2', 'removed w1'])
  await until(() => informer.health().staleMs === 0)
  await informer.stop()
})

real('an informer whose place was forgotten looks at everything again', async () => {
  const seen: string[] = []
  const informer = new Informer(client, CONFIG_MAPS, {
    labelSelector: 'forgotten',
    onChange: ({ type, object }) => seen.push(`${type} ${object.metadata.name}`),
  }).start()
  await informer.synced
  const make = (name: string) => client.create(CONFIG_MAPS, { metadata: { name, labels: { forgotten: '' } } })
  await make('f1')
  await until(() => seen.length === 1)
  const relists = informer.health().relists
  // what it watched is gone from the server's memory and from etcd's history, and things happened meanwhile
  await server.kill()
  const second = await server.startBeside()
  const other = second.client
  await other.create(CONFIG_MAPS, { metadata: { name: 'f2', labels: { forgotten: '' } } })
  await other.delete(CONFIG_MAPS, 'f1')
  await server.compact()
  await second.stop()
  await server.start()
  await until(() => informer.health().relists > relists)
  await until(() => seen.length === 3)
  assert.deepEqual(seen.toSorted(), ['added f1', 'added f2', 'removed f1'])
  await informer.stop()
})

real('a watch from an old version is told that it expired', async () => {
  const { watch } = await import('#io/kube/watch.ts')
  await server.compact()
  const events = watch(client, CONFIG_MAPS, { resourceVersion: '1' })
  await assert.rejects(
    async () => {
      for await (const _ of events) assert.fail('nothing can be sent from version 1')
    },
    (error) => hasCode(error, 'kube.expired'),
  )
})

real('a thousand nodes cost an informer little memory', async (t) => {
  const image = (i: number) => ({ names: [`registry.example/${'x'.repeat(80)}:${i}`], sizeBytes: 1 })
  for (let i = 0; i < 1000; i += 50) {
    await Promise.all(
      Array.from({ length: 50 }, async (_, j) => {
        const name = `bulk-${i + j}`
        await client.create(NODES, {
          metadata: { name, labels: { bulk: '' } },
          status: { images: Array.from({ length: 20 }, (__, k) => image(k)) },
        } as never)
      }),
    )
  }
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const measure = async () => {
    collect()
    await sleep(50)
    collect()
    return process.memoryUsage().heapUsed
  }
  const empty = await measure()
  const informer = new Informer(client, NODES, {
    labelSelector: 'bulk',
    keep: ({ metadata, spec }) => ({
      metadata: { ...metadata, managedFields: undefined } as never,
      ...(spec === undefined ? {} : { spec }),
    }),
  }).start()
  await informer.synced
  assert.equal(informer.list().length, 1000)
  const grown = (await measure()) - empty
  assert.equal(
    informer.list().some((node) => 'status' in node),
    false,
  )
  t.diagnostic(`1,000 nodes: ${(grown / 1024 / 1024).toFixed(1)} MiB of heap`)
  await informer.stop()
})
