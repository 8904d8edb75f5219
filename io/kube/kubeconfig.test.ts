import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { Fault } from '#core/fault/fault.ts'
import { findConnection, inCluster } from './connection.ts'
import { Credentials } from './credentials.ts'
import { hasCode } from './errors.ts'
import { chooseContext } from './kubeconfig.ts'

const PEM = '-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n'
const DATA = Buffer.from(PEM).toString('base64')

const FIRST = `
apiVersion: v1
kind: Config
current-context: one
clusters:
- {name: c, cluster: {server: "https://10.0.0.1:6443", certificate-authority: pki/ca.crt}}
users:
- {name: u, user: {client-certificate-data: ${DATA}, client-key: /abs/key.pem}}
contexts:
- {name: one, context: {cluster: c, user: u, namespace: kube-system}}
`
const SECOND = `
current-context: two
clusters:
- {name: c, cluster: {server: "https://10.9.9.9"}}
- {name: d, cluster: {server: "http://127.0.0.1:8001/prefix", insecure-skip-tls-verify: true}}
users:
- {name: v, user: {token: t0, as: jane, as-groups: [a, b], as-user-extra: {"example.org/x": [y]}}}
contexts:
- {name: two, context: {cluster: d, user: v}}
`
const FILES = [
  { path: '/home/x/.kube/config', text: FIRST },
  { path: '/etc/second', text: SECOND },
]

function configFault(error: unknown): error is Fault {
  return error instanceof Fault && error.code === 'kube.config'
}

test('the first file that says something wins, and paths are relative to it', () => {
  const chosen = chooseContext(FILES)
  assert.equal(chosen.server.href, 'https://10.0.0.1:6443/')
  assert.equal(chosen.namespace, 'kube-system')
  assert.deepEqual(chosen.ca, { file: '/home/x/.kube/pki/ca.crt' })
  assert.deepEqual(chosen.certificate, { cert: { pem: PEM }, key: { file: '/abs/key.pem' } })
})

test('another context by name, from the second file, with impersonation', () => {
  const chosen = chooseContext(FILES, 'two')
  assert.equal(chosen.server.href, 'http://127.0.0.1:8001/prefix')
  assert.equal(chosen.namespace, 'default')
  assert.equal(chosen.insecure, true)
  assert.deepEqual(chosen.credential, { kind: 'token', token: 't0' })
  assert.deepEqual(chosen.impersonate, {
    'Impersonate-User': 'jane',
    'Impersonate-Group': ['a', 'b'],
    'Impersonate-Extra-example.org%2Fx': ['y'],
  })
})

for (const [what, text, field] of [
  ['no context', 'clusters: []', 'current-context'],
  ['a context that is missing', 'current-context: x', 'contexts'],
  ['a cluster that is missing', 'current-context: x\ncontexts: [{name: x, context: {cluster: c}}]', 'clusters'],
  ['a server that is no URL', kubeconfig({ server: 'ftp://x' }), 'server'],
  ['a proxy', kubeconfig({ server: 'https://x', 'proxy-url': 'http://p' }), 'proxy-url'],
  [
    'certificate data that is none',
    kubeconfig({ server: 'https://x', 'certificate-authority-data': 'AAAA' }),
    'certificate-authority-data',
  ],
  ['a server of the wrong type', kubeconfig({ server: 7 }), 'server'],
  ['half a client certificate', kubeconfig({ server: 'https://x' }, { 'client-key-data': DATA }), 'client-certificate'],
  [
    'an exec plugin of an old version',
    kubeconfig({ server: 'https://x' }, { exec: { apiVersion: 'v1alpha1', command: 'x' } }),
    'exec.apiVersion',
  ],
] as const) {
  test(`${what} is a fault with its field`, () => {
    assert.throws(
      () => chooseContext([{ path: '/k', text }]),
      (error) => configFault(error) && error.field === field,
    )
  })
}

function kubeconfig(cluster: object, user: object = {}): string {
  return JSON.stringify({
    'current-context': 'x',
    clusters: [{ name: 'c', cluster }],
    users: [{ name: 'u', user }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
  })
}

test('a broken file never shows what stands in it', () => {
  assert.throws(
    () => chooseContext([{ path: '/k', text: 'users:\n- token: "s3cret\n  x: [' }]),
    (error) => configFault(error) && !JSON.stringify([error.message, error.cause]).includes('s3cret'),
  )
})

test('whatever stands in a file, the answer is a connection or a fault', () => {
  const anything = fc.oneof(
    fc.string(),
    fc.json(),
    fc.object().map((value) => JSON.stringify(value)),
  )
  fc.assert(
    fc.property(anything, fc.option(fc.string(), { nil: undefined }), (text, context) => {
      try {
        chooseContext([{ path: '/k', text }], context)
      } catch (error) {
        assert.ok(configFault(error), String(error))
      }
    }),
    { seed: 5, numRuns: 500 },
  )
})

test('whatever is said of cluster and user, the answer is a connection or a fault', () => {
  const value = fc.oneof(
    fc.string(),
    fc.constant(null),
    fc.boolean(),
    fc.constant('https://[::1]:6443'),
    fc.constant(DATA),
  )
  const cluster = fc.dictionary(
    fc.constantFrom('server', 'certificate-authority', 'certificate-authority-data', 'tls-server-name'),
    value,
  )
  const user = fc.dictionary(
    fc.constantFrom('token', 'tokenFile', 'client-certificate-data', 'client-key-data', 'as', 'exec'),
    value,
  )
  fc.assert(
    fc.property(cluster, user, (c, u) => {
      try {
        assert.ok(chooseContext([{ path: '/k', text: kubeconfig(c, u) }]).server instanceof URL)
      } catch (error) {
        assert.ok(configFault(error), String(error))
      }
    }),
    { seed: 6, numRuns: 500 },
  )
})

test('KUBECONFIG may name files that do not exist, a flag may not', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'pk-'))
  t.after(() => rm(folder, { recursive: true }))
  const file = join(folder, 'config')
  await writeFile(file, SECOND)
  const found = await findConnection({ env: { KUBECONFIG: `${folder}/none:${file}` } })
  assert.equal(found.server.port, '8001')
  const asJoe = await findConnection({ kubeconfig: file, context: 'two', as: 'joe', env: {} })
  assert.deepEqual(asJoe.impersonate, { 'Impersonate-User': 'joe' }, 'in place of jane and her groups')
  await assert.rejects(findConnection({ kubeconfig: file, asGroups: ['a'], env: {} }), configFault)
  await assert.rejects(findConnection({ kubeconfig: `${folder}/none`, env: {} }), configFault)
  await assert.rejects(findConnection({ env: { KUBECONFIG: `${folder}/none` } }), configFault)
  await assert.rejects(findConnection({ env: { HOME: folder } }), configFault)
})

test("in a pod the service account's token is read again when it is old or was refused", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'pk-'))
  t.after(() => rm(folder, { recursive: true }))
  await writeFile(join(folder, 'namespace'), 'kube-system\n')
  await writeFile(join(folder, 'token'), 'first\n')
  const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '6443' }
  const connection = await inCluster(env, folder)
  assert.equal(connection.server.href, 'https://[fd00::1]:6443/')
  assert.equal(connection.namespace, 'kube-system')
  let now = 0
  const credentials = new Credentials(connection, () => now)
  assert.equal((await credentials.identity()).authorization, 'Bearer first')
  await writeFile(join(folder, 'token'), 'second\n')
  assert.equal((await credentials.identity()).authorization, 'Bearer first')
  now = 61_000
  assert.equal((await credentials.identity()).authorization, 'Bearer second')
  await writeFile(join(folder, 'token'), 'third\n')
  credentials.invalidate()
  assert.equal((await credentials.identity()).authorization, 'Bearer third')
})

function withPlugin(script: string, more: object = {}): Credentials {
  const exec = {
    apiVersion: 'client.authentication.k8s.io/v1',
    command: 'sh',
    args: ['-c', script],
    interactiveMode: 'Never',
    ...more,
  }
  return new Credentials(chooseContext([{ path: '/k', text: kubeconfig({ server: 'https://x:1' }, { exec }) }]))
}

test('an exec plugin gives the token, is told the cluster, and runs once for many requests', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'pk-'))
  t.after(() => rm(folder, { recursive: true }))
  const script = `echo run >> ${folder}/runs; case "$KUBERNETES_EXEC_INFO" in *https://x:1*) ;; *) exit 3;; esac
    echo '{"status":{"token":"'"$EXTRA"'","expirationTimestamp":"2099-01-01T00:00:00Z"}}'`
  const credentials = withPlugin(script, { provideClusterInfo: true, env: [{ name: 'EXTRA', value: 'tok' }] })
  const [one, two] = await Promise.all([credentials.identity(), credentials.identity()])
  assert.equal(one.authorization, 'Bearer tok')
  assert.equal(two.authorization, 'Bearer tok')
  const { readFile } = await import('node:fs/promises')
  assert.equal(await readFile(`${folder}/runs`, 'utf8'), 'run\n')
})

for (const [what, script] of [
  ['ends badly', 'exit 7'],
  ['prints no JSON', 'echo hello'],
  ['prints something else', 'echo "{}"'],
] as const) {
  test(`an exec plugin that ${what} is a fault with its hint`, async () => {
    await assert.rejects(
      withPlugin(script, { installHint: 'Install it' }).identity(),
      (error) => hasCode(error, 'kube.credential') && (error as Fault).remedy === 'Install it',
    )
  })
}
