import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { kubeFault } from './errors.ts'
import { type Connection, chooseContext, type KubeconfigFile } from './kubeconfig.ts'

export interface ConnectOptions {
  /** A file, or several as in `KUBECONFIG`; like `--kubeconfig`. */
  readonly kubeconfig?: string | undefined
  /** Like `--context`. */
  readonly context?: string | undefined
  /** Like `--as` and `--as-group`; in place of what the kubeconfig says. */
  readonly as?: string | undefined
  readonly asGroups?: readonly string[] | undefined
  /** Standard: `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>
}

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'

/**
 * In kubectl's order: the named file, `KUBECONFIG`, `~/.kube/config`, and last the pod's own service account.
 * @throws Fault `kube.config`
 */
export async function findConnection(options: ConnectOptions = {}): Promise<Connection> {
  const { as = '', asGroups = [] } = options
  if (as === '' && asGroups.length > 0) {
    throw kubeFault('kube.config', 'groups cannot be impersonated without a user', {
      field: '--as-group',
      remedy: 'Say who with --as USER',
    })
  }
  const connection = await withoutImpersonation(options)
  if (as === '') return connection
  const groups = asGroups.length === 0 ? {} : { 'Impersonate-Group': asGroups }
  return { ...connection, impersonate: { 'Impersonate-User': as, ...groups } }
}

async function withoutImpersonation(options: ConnectOptions): Promise<Connection> {
  const env = options.env ?? process.env
  const named = options.kubeconfig ?? env['KUBECONFIG']
  if (named !== undefined && named !== '') {
    const files = await readFiles(
      named.split(delimiter).filter((path) => path !== ''),
      options.kubeconfig !== undefined,
    )
    if (files.length > 0) return chooseContext(files, options.context)
    throw kubeFault('kube.config', `none of the kubeconfig files exists: ${named}`, {
      field: 'KUBECONFIG',
      remedy: 'Unset KUBECONFIG or let it name a kubeconfig file',
    })
  }
  const standard = join(env['HOME'] ?? homedir(), '.kube', 'config')
  if (existsSync(standard)) return chooseContext(await readFiles([standard], true), options.context)
  if (env['KUBERNETES_SERVICE_HOST']) return inCluster(env)
  throw kubeFault('kube.config', 'no cluster is known: no KUBECONFIG, no ~/.kube/config, and this is no pod', {
    field: 'KUBECONFIG',
    remedy: 'Set KUBECONFIG or pass --kubeconfig FILE',
  })
}

/** The pod's service account; the token file is read again while we run (kubelet renews it). */
export async function inCluster(
  env: Readonly<Record<string, string | undefined>> = process.env,
  folder = SERVICE_ACCOUNT,
): Promise<Connection> {
  const [host, port] = [env['KUBERNETES_SERVICE_HOST'], env['KUBERNETES_SERVICE_PORT'] ?? '443']
  if (!host) {
    throw kubeFault('kube.config', 'KUBERNETES_SERVICE_HOST is not set: this is no pod', {
      field: 'KUBERNETES_SERVICE_HOST',
    })
  }
  const namespace = await readFile(join(folder, 'namespace'), 'utf8').catch(() => 'default')
  return {
    server: new URL(`https://${host.includes(':') ? `[${host}]` : host}:${port}`),
    namespace: namespace.trim(),
    ca: { file: join(folder, 'ca.crt') },
    tlsServerName: undefined,
    insecure: false,
    certificate: undefined,
    credential: { kind: 'token-file', file: join(folder, 'token') },
    impersonate: {},
  }
}

/** kubectl passes over files of `KUBECONFIG` that do not exist, but not over one that was named by a flag. */
async function readFiles(paths: readonly string[], strict: boolean): Promise<KubeconfigFile[]> {
  const files: KubeconfigFile[] = []
  for (const path of paths) {
    try {
      files.push({ path, text: await readFile(path, 'utf8') })
    } catch (error) {
      const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT'
      if (strict || !missing) throw kubeFault('kube.config', `${path} cannot be read`, { field: path, cause: error })
    }
  }
  return files
}
