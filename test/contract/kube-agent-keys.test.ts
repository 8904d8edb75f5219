/** Where an agent's IPsec keys come from, against a real API server and a folder as kubelet writes it. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { type KeyReading, KeySource } from '#apps/agent/key-source.ts'
import { formatKeptKeys, KEPT_SECRET, secretOf } from '#core/api/ipsec-secrets.ts'
import type { KubeObject } from '#core/api/object.ts'
import { SECRETS } from '#core/api/resources.ts'
import type { KeyFingerprint } from '#core/ipsec/key.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { SILENT } from '#io/telemetry/log.ts'
import { apiSuite, until } from '#test/kit/api-suite.ts'
import type { ApiServer } from '#test/kit/apiserver.ts'
import { RBAC } from '#test/kit/chart-manifests.ts'
import { findProgram } from '#test/kit/kubernetes-programs.ts'

const run = promisify(execFile)
let client: KubeClient
let server: ApiServer
const realTest = apiSuite((made) => {
  client = made.client
  server = made.server
})

const KEY = (id: number) =>
  `${id}+ rfc4106(gcm(aes)) ${`c17be205f8934d6a0e5b92fd3184a76c${id}2345671`.slice(0, 40)} 128`
let count = 0

async function withSource(
  body: (under: {
    source: KeySource
    secret: string
    follow: (file?: string) => Promise<void>
    changes: () => number
  }) => Promise<void>,
): Promise<void> {
  let changes = 0
  const source = new KeySource(client, SILENT, () => void changes++)
  const secret = `keys-${++count}`
  const follow = (file?: string) => source.follow({ namespace: 'default', secret, field: 'keys', file, watched: true })
  try {
    await body({ source, secret, follow, changes: () => changes })
  } finally {
    await source.close()
  }
}

const write = (name: string, texts: Record<string, string>) =>
  client.apply(SECRETS, { ...secretOf(name, texts), apiVersion: 'v1', kind: 'Secret' } as never, {
    fieldManager: 'test',
    force: true,
    namespace: 'default',
  })
const readingOf = (source: KeySource): KeyReading => source.reading
const ids = (source: KeySource) => source.reading.current?.map(({ id }) => id).join()

realTest('a missing Secret is told with what to create; then it counts, and a wrong one does not', () =>
  withSource(async ({ source, secret, follow }) => {
    await follow()
    await until(() => source.reading.complete)
    const { problem, current } = source.reading
    assert.equal(current, undefined)
    assert.match(problem?.message ?? '', new RegExp(`no Secret ${secret} in namespace default`))
    assert.match(
      problem?.remedy ?? '',
      new RegExp(`kubectl -n default create secret generic ${secret} --from-literal=keys=`),
    )
    await write(secret, { keys: KEY(3) })
    await until(() => ids(source) === '3')
    assert.equal(source.reading.problem, undefined)
    await write(secret, { keys: '4 rfc4106(gcm(aes)) deadbeefzz 128' })
    await until(() => source.reading.problem !== undefined)
    assert.equal(ids(source), '3')
    const told = readingOf(source).problem
    assert.match(told?.message ?? '', /^Secret default\/keys-\d+, line 1, field 3: unable to decode/)
    assert.doesNotMatch(`${told?.message} ${told?.stack}`, /deadbeef/)
    await write(secret, { key: KEY(4) })
    await until(() => /no field "keys" \(fields: key\)/.test(source.reading.problem?.message ?? ''))
    await client.patch(SECRETS, secret, { data: { keys: '/w==' } }, { namespace: 'default' })
    await until(() => /what is in field "keys" is no text/.test(source.reading.problem?.message ?? ''))
    await write(secret, { keys: `${KEY(4)}\n` })
    await until(() => ids(source) === '4' && source.reading.problem === undefined)
    await client.delete(SECRETS, secret, { namespace: 'default' })
    await until(() => source.reading.problem !== undefined)
    assert.equal(ids(source), '4', 'the last good one stays in force')
  }),
)

realTest('a Secret in another namespace is named', () =>
  withSource(async ({ source, secret, follow }) => {
    await client.apply(SECRETS, { ...secretOf(secret, { keys: KEY(3) }), apiVersion: 'v1', kind: 'Secret' } as never, {
      fieldManager: 'test',
      force: true,
      namespace: 'kube-system',
    })
    await follow()
    await until(() => /there is one in namespace kube-system/.test(source.reading.problem?.message ?? ''))
    assert.equal(source.reading.current, undefined)
    // what is told to type does it
    const command = /^Copy it: (kubectl .*)$/.exec(source.reading.problem?.remedy ?? '')?.[1]
    assert.ok(command !== undefined)
    const kubectl = findProgram('kubectl')
    if (kubectl === undefined) return
    const PATH = `${dirname(kubectl)}:${process.env['PATH'] ?? ''}`
    await run('bash', ['-c', command], { env: { ...process.env, KUBECONFIG: server.kubeconfig, PATH } })
    await until(() => ids(source) === '3')
  }),
)

realTest('an agent with no more rights than the chart gives is told how to find it', () =>
  withSource(async ({ secret }) => {
    const allowed = await server.as('chart-agent')
    const source = new KeySource(allowed, SILENT, () => undefined)
    const scope = { namespace: 'default' }
    const name = `only-${secret}`
    const rule = { apiGroups: [''], resources: ['secrets'], resourceNames: [secret, KEPT_SECRET] }
    const rules = [{ ...rule, verbs: ['get', 'list', 'watch'] }]
    const made = { fieldManager: 'test', force: true, ...scope }
    const apiGroup = 'rbac.authorization.k8s.io'
    await client.apply(RBAC('Role', true), { metadata: { name }, rules } as KubeObject, made)
    const subjects = [{ kind: 'User', name: 'chart-agent', apiGroup }]
    const binding = { metadata: { name }, roleRef: { apiGroup, kind: 'Role', name }, subjects }
    await client.apply(RBAC('RoleBinding', true), binding, made)
    try {
      await source.follow({ ...scope, secret, field: 'keys', file: undefined, watched: true })
      await until(() => /in another namespace: kubectl get secrets -A/.test(source.reading.problem?.remedy ?? ''))
      assert.doesNotMatch(source.reading.problem?.message ?? '', /may not read/)
    } finally {
      await source.close()
    }
  }),
)

realTest('what the operator keeps is read beside it', () =>
  withSource(async ({ source, secret, follow }) => {
    await write(secret, { keys: KEY(4) })
    await client.apply(
      SECRETS,
      {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: KEPT_SECRET },
        type: 'Opaque',
        data: formatKeptKeys({ texts: [KEY(3), KEY(4)], retired: [] }),
      } as never,
      { fieldManager: 'test', force: true, namespace: 'default' },
    )
    await follow()
    await until(() => source.reading.complete && source.reading.kept.length === 2)
    assert.deepEqual(
      source.reading.kept.map(({ id }) => id),
      [3, 4],
    )
    assert.equal(source.reading.operator, true)
    await client.delete(SECRETS, KEPT_SECRET, { namespace: 'default' })
    await until(() => source.reading.kept.length === 0)
  }),
)

realTest('a file counts where there is no Secret, also when kubelet swaps it', () =>
  withSource(async ({ source, follow }) => {
    const folder = await mkdtemp(join(tmpdir(), 'pa-keys-'))
    /** As kubelet's atomic writer: a folder for each version, `..data` points to it. */
    const put = async (version: number, text: string) => {
      await mkdir(join(folder, `..v${version}`))
      await writeFile(join(folder, `..v${version}`, 'keys'), text)
      await symlink(`..v${version}`, join(folder, '..data_tmp'))
      await rename(join(folder, '..data_tmp'), join(folder, '..data'))
    }
    try {
      await put(1, KEY(3))
      await symlink('..data/keys', join(folder, 'keys'))
      await follow(join(folder, 'keys'))
      await until(() => ids(source) === '3')
      assert.equal(source.reading.operator, false)
      assert.equal(source.reading.problem, undefined)
      await put(2, KEY(4))
      await until(() => ids(source) === '4')
      // of a time when there was a Secret
      const empty = {
        ...secretOf(KEPT_SECRET, {}),
        data: formatKeptKeys({ texts: [], retired: [{ id: 2, fingerprint: '0123456789abcdef' as KeyFingerprint }] }),
      }
      await client.create(SECRETS, empty, { namespace: 'default' })
      await until(() => source.reading.retired.length === 1)
      assert.equal(source.reading.operator, false)
      await client.delete(SECRETS, KEPT_SECRET, { namespace: 'default' })
      // a folder in its place
      await rm(join(folder, 'keys'))
      await mkdir(join(folder, 'keys'))
      await until(() => /cannot read .*keys/.test(source.reading.problem?.message ?? ''))
      assert.equal(ids(source), '4', 'the last good one stays in force')
      assert.equal(source.reading.operator, false)
    } finally {
      await rm(folder, { recursive: true })
    }
  }),
)

realTest('what was read before encryption was turned off does not count when it is on again', () =>
  withSource(async ({ source, secret, follow }) => {
    await write(secret, { keys: KEY(3) })
    await Promise.all([follow(), follow()])
    await until(() => source.reading.complete && ids(source) === '3')
    await source.close()
    assert.deepEqual([source.reading.current, source.reading.complete], [undefined, false])
    await write(secret, { keys: KEY(5) })
    // watched by nobody, and still the key of now counts
    await source.follow({ namespace: 'default', secret, field: 'keys', file: undefined, watched: false })
    assert.equal(ids(source), undefined, 'nothing counts before it was read')
    await until(() => source.reading.complete)
    assert.equal(ids(source), '5')
  }),
)
