import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { KubeClient } from '#io/kube/client.ts'
import { findProgram } from './kubernetes-programs.ts'

/**
 * A real etcd and kube-apiserver, alone, on loopback ports of their own: up in about 3 s, gone with {@link stop}. The
 * programs also end when this process dies, however it dies.
 */
export interface ApiServer {
  readonly url: string
  /** Of the cluster's administrator. */
  readonly kubeconfig: string
  /** Everything lies here: certificates, logs. */
  readonly folder: string
  client(): Promise<KubeClient>
  /** A client with another identity, by impersonation. */
  as(user: string, groups?: readonly string[], extra?: Readonly<Record<string, readonly string[]>>): Promise<KubeClient>
  /** kube-apiserver alone; etcd keeps what it has. */
  kill(signal?: NodeJS.Signals): Promise<void>
  start(): Promise<void>
  /** Makes every older resourceVersion expire (410). */
  compact(): Promise<void>
  /** A second kube-apiserver on the same etcd, at another port. */
  startBeside(): Promise<{ readonly client: KubeClient; stop(): Promise<void> }>
  readonly pid: number | undefined
  stop(): Promise<void>
}

export interface ApiServerOptions {
  /** More flags of kube-apiserver. */
  readonly flags?: readonly string[]
}

/** Undefined when all is there; else what is missing, for `t.skip('needs …')`. */
export function missingForApiServer(): string | undefined {
  for (const program of ['etcd', 'kube-apiserver', 'openssl']) {
    if (findProgram(program) === undefined) return `${program} (make setup builds it, or set PELLICLE_KUBERNETES_BIN)`
  }
  return undefined
}

export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const folder = mkdtempSync(join(tmpdir(), 'pk-apiserver-'))
  const [port, etcdPort, peerPort] = (await freePorts(3)) as [number, number, number]
  const url = `https://127.0.0.1:${port}`
  const etcdUrl = `http://127.0.0.1:${etcdPort}`
  const children = new Set<ChildProcess>()
  try {
    makeKeys(folder, url)
  } catch (error) {
    rmSync(folder, { recursive: true, force: true })
    throw error
  }
  const etcd = launch(folder, 'etcd', children, [
    '--name=t',
    `--data-dir=${folder}/data`,
    '--unsafe-no-fsync',
    `--listen-client-urls=${etcdUrl}`,
    `--advertise-client-urls=${etcdUrl}`,
    `--listen-peer-urls=http://127.0.0.1:${peerPort}`,
    `--initial-advertise-peer-urls=http://127.0.0.1:${peerPort}`,
    `--initial-cluster=t=http://127.0.0.1:${peerPort}`,
    '--log-level=error',
  ])
  let server: ChildProcess | undefined
  const kubeconfig = join(folder, 'admin.kubeconfig')
  const clients: KubeClient[] = []
  const client = async () => {
    const made = await KubeClient.connect({ kubeconfig })
    clients.push(made)
    return made
  }

  const launchServer = (at: number) =>
    launch(folder, 'kube-apiserver', children, [
      `--etcd-servers=${etcdUrl}`,
      '--bind-address=127.0.0.1',
      `--secure-port=${at}`,
      '--advertise-address=127.0.0.1',
      `--tls-cert-file=${folder}/apiserver.crt`,
      `--tls-private-key-file=${folder}/apiserver.key`,
      `--client-ca-file=${folder}/ca.crt`,
      '--service-account-issuer=https://kubernetes.default.svc',
      `--service-account-key-file=${folder}/sa.pub`,
      `--service-account-signing-key-file=${folder}/sa.key`,
      '--authorization-mode=Node,RBAC',
      '--service-cluster-ip-range=10.96.0.0/16',
      '--endpoint-reconciler-type=none',
      ...(options.flags ?? []),
    ])
  const start = async () => {
    server = launchServer(port)
    await ready(await client(), server, folder)
  }
  const stop = async () => {
    for (const one of clients) one.close()
    await Promise.all([...children].map((child) => end(child, 'SIGKILL')))
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    await start()
  } catch (error) {
    await stop()
    throw error
  }
  return {
    url,
    kubeconfig,
    folder,
    client,
    as: async (user, groups = [], extra = {}) => {
      const path = join(folder, `as-${crypto.randomUUID()}.kubeconfig`)
      writeFileSync(path, kubeconfigText(folder, url, { as: user, 'as-groups': groups, 'as-user-extra': extra }))
      const made = await KubeClient.connect({ kubeconfig: path })
      clients.push(made)
      return made
    },
    kill: async (signal = 'SIGKILL') => {
      if (server !== undefined) await end(server, signal)
    },
    start,
    compact: () => compact(etcdUrl),
    startBeside: async () => {
      const [at] = (await freePorts(1)) as [number]
      const path = join(folder, `beside-${at}.kubeconfig`)
      writeFileSync(path, kubeconfigText(folder, `https://127.0.0.1:${at}`, {}))
      const beside = launchServer(at)
      const made = await KubeClient.connect({ kubeconfig: path })
      clients.push(made)
      await ready(made, beside, folder)
      return { client: made, stop: () => end(beside, 'SIGKILL') }
    },
    get pid() {
      return server?.pid
    },
    stop: async () => {
      await stop()
      await end(etcd, 'SIGKILL')
    },
  }
}

function launch(folder: string, name: string, children: Set<ChildProcess>, flags: readonly string[]): ChildProcess {
  const program = findProgram(name)
  if (program === undefined) throw new TypeError(`${name} is missing; ask missingForApiServer first`)
  const log = openSync(join(folder, `${name}.log`), 'a')
  // a test that is killed must not leave servers behind
  const setpriv = findProgram('setpriv')
  const command = setpriv === undefined ? [program] : [setpriv, '--pdeathsig', 'KILL', '--', program]
  const child = spawn(command[0] as string, [...command.slice(1), ...flags], { stdio: ['ignore', log, log] })
  closeSync(log)
  children.add(child)
  child.once('exit', () => children.delete(child))
  return child
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill(signal)
  await gone
}

async function ready(client: KubeClient, server: ChildProcess, folder: string): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (server.exitCode !== null) break
    try {
      const response = await client.open({ method: 'GET', path: '/readyz', timeoutMs: 2000 })
      response.resume()
      // made by the server itself a moment later; everything that lies in it waits for it
      await client.request({ method: 'GET', path: '/api/v1/namespaces/default' })
      await client.request({ method: 'GET', path: '/api/v1/namespaces/kube-system' })
      return
    } catch {
      await sleep(100)
    }
  }
  const log = readFileSync(join(folder, 'kube-apiserver.log'), 'utf8').split('\n').slice(-5).join('\n')
  throw new Error(`kube-apiserver did not come up:\n${log}`)
}

/** Forgets all history, so that every old resourceVersion is answered with 410. By etcd's JSON gateway. */
async function compact(etcdUrl: string): Promise<void> {
  const post = async (path: string, body: unknown) => {
    const answer = await fetch(`${etcdUrl}/v3/${path}`, { method: 'POST', body: JSON.stringify(body) })
    if (!answer.ok) throw new Error(`etcd ${path}: ${answer.status} ${await answer.text()}`)
    return (await answer.json()) as { header: { revision: string } }
  }
  const key = Buffer.from('/none').toString('base64')
  const { header } = await post('kv/range', { key })
  await post('kv/compaction', { revision: header.revision, physical: true })
}

/** Below those that the kernel gives to whoever asks for any, or it might give one away before it is used. */
async function freePorts(count: number): Promise<number[]> {
  const found: number[] = []
  while (found.length < count) {
    const port = randomInt(12_000, 30_000)
    const server = createServer()
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true))
    })
    if (free) await once(server.close(), 'close')
    if (free && !found.includes(port)) found.push(port)
  }
  return found
}

function makeKeys(folder: string, url: string): void {
  mkdirSync(folder, { recursive: true })
  const openssl = (...args: string[]) =>
    execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  openssl('req', '-x509', ...curve, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=pk-ca', '-days', '2')
  const issue = (name: string, subject: string, usage: string) => {
    openssl('req', ...curve, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', subject)
    const extensions = `basicConstraints=CA:FALSE\nextendedKeyUsage=${usage}\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n`
    writeFileSync(join(folder, `${name}.ext`), extensions)
    const signing = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-extfile', `${name}.ext`]
    openssl('x509', '-req', '-in', `${name}.csr`, '-out', `${name}.crt`, ...signing)
  }
  issue('apiserver', '/CN=kube-apiserver', 'serverAuth')
  issue('admin', '/O=system:masters/CN=admin', 'clientAuth')
  openssl('genrsa', '-out', 'sa.key', '2048')
  openssl('rsa', '-in', 'sa.key', '-pubout', '-out', 'sa.pub')
  writeFileSync(join(folder, 'admin.kubeconfig'), kubeconfigText(folder, url, {}))
}

function kubeconfigText(folder: string, url: string, user: object): string {
  // JSON is YAML
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 't', cluster: { server: url, 'certificate-authority': join(folder, 'ca.crt') } }],
    users: [
      {
        name: 'u',
        user: { 'client-certificate': join(folder, 'admin.crt'), 'client-key': join(folder, 'admin.key'), ...user },
      },
    ],
    contexts: [{ name: 't', context: { cluster: 't', user: 'u' } }],
    'current-context': 't',
  })
}
