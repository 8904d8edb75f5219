import { dirname, isAbsolute, join } from 'node:path'
import { parse } from 'yaml'
import { z } from 'zod'
import { kubeFault } from './errors.ts'

/** kubeconfig files, without touching one: texts in, one chosen context out. */

/** PEM text, or the path of a file that has it (and may change under us). */
export type Pem = { readonly pem: string } | { readonly file: string }

export interface ExecSpec {
  readonly apiVersion: string
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly installHint: string | undefined
  readonly provideClusterInfo: boolean
  readonly interactive: boolean
}

type Credential =
  | { readonly kind: 'none' }
  | { readonly kind: 'token'; readonly token: string }
  | { readonly kind: 'token-file'; readonly file: string }
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  | { readonly kind: 'exec'; readonly spec: ExecSpec }

/** How one API server is reached and as whom. */
export interface Connection {
  readonly server: URL
  readonly namespace: string
  readonly ca: Pem | undefined
  readonly tlsServerName: string | undefined
  readonly insecure: boolean
  readonly certificate: { readonly cert: Pem; readonly key: Pem } | undefined
  readonly credential: Credential
  /** `as`, `as-groups`, `as-uid`, `as-user-extra` as request headers. */
  readonly impersonate: Readonly<Record<string, string | readonly string[]>>
}

const text = z.string().nullish()
const clusterSchema = z.object({
  server: z.string(),
  'certificate-authority': text,
  'certificate-authority-data': text,
  'insecure-skip-tls-verify': z.boolean().nullish(),
  'tls-server-name': text,
  'proxy-url': text,
})
const execSchema = z.object({
  apiVersion: z.enum(['client.authentication.k8s.io/v1', 'client.authentication.k8s.io/v1beta1']),
  command: z.string().min(1),
  args: z.array(z.string()).nullish(),
  env: z.array(z.object({ name: z.string(), value: z.string() })).nullish(),
  installHint: text,
  provideClusterInfo: z.boolean().nullish(),
  interactiveMode: z.enum(['Never', 'IfAvailable', 'Always']).nullish(),
})
const userSchema = z.object({
  'client-certificate': text,
  'client-certificate-data': text,
  'client-key': text,
  'client-key-data': text,
  token: text,
  tokenFile: text,
  username: text,
  password: text,
  exec: execSchema.nullish(),
  as: text,
  'as-uid': text,
  'as-groups': z.array(z.string()).nullish(),
  'as-user-extra': z.record(z.string(), z.array(z.string())).nullish(),
})
const contextSchema = z.object({ cluster: z.string(), user: z.string().nullish(), namespace: text })
const fileSchema = z.object({
  'current-context': text,
  clusters: z.array(z.object({ name: z.string(), cluster: z.unknown() })).nullish(),
  users: z.array(z.object({ name: z.string(), user: z.unknown() })).nullish(),
  contexts: z.array(z.object({ name: z.string(), context: z.unknown() })).nullish(),
})

export interface KubeconfigFile {
  readonly path: string
  readonly text: string
}

interface Entry {
  readonly value: unknown
  readonly file: string
}

/**
 * Merges as kubectl does: the first file that names a cluster, user, context or the current context wins; relative
 * paths are relative to the file that they stand in. Only the chosen entries are judged.
 * @throws Fault `kube.config`
 */
export function chooseContext(files: readonly KubeconfigFile[], wanted?: string): Connection {
  const clusters = new Map<string, Entry>()
  const users = new Map<string, Entry>()
  const contexts = new Map<string, Entry>()
  let current: string | undefined
  for (const file of files) {
    const content = readFile(file)
    if (content === undefined) continue
    current ??= content['current-context'] || undefined
    for (const { name, cluster } of content.clusters ?? []) keep(clusters, name, cluster, file.path)
    for (const { name, user } of content.users ?? []) keep(users, name, user, file.path)
    for (const { name, context } of content.contexts ?? []) keep(contexts, name, context, file.path)
  }
  const name = wanted ?? current
  const where = files.map((file) => file.path).join(', ')
  if (name === undefined) {
    throw kubeFault('kube.config', `no context is chosen in ${where}`, {
      field: 'current-context',
      remedy: 'Run kubectl config use-context NAME, or name one by --context',
    })
  }
  const context = judge(contextSchema, contexts.get(name), 'context', name, where)
  const clusterEntry = clusters.get(context.cluster)
  const cluster = judge(clusterSchema, clusterEntry, 'cluster', context.cluster, where)
  const userEntry = users.get(context.user ?? '')
  const user = context.user ? judge(userSchema, userEntry, 'user', context.user, where) : {}
  return connectionOf(cluster, clusterEntry?.file ?? '', user, userEntry?.file ?? '', context.namespace || 'default')
}

function readFile(file: KubeconfigFile): z.infer<typeof fileSchema> | undefined {
  let content: unknown
  try {
    content = parse(file.text, { logLevel: 'error' })
  } catch (error) {
    // the parser's message quotes the line, which may hold a token
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'malformed'
    throw kubeFault('kube.config', `${file.path} is no YAML (${code})`, { field: file.path })
  }
  if (content === null || content === undefined) return undefined
  const parsed = fileSchema.safeParse(content)
  if (!parsed.success) throw malformed(parsed.error, file.path)
  return parsed.data
}

function keep(map: Map<string, Entry>, name: string, value: unknown, file: string): void {
  if (!map.has(name)) map.set(name, { value, file })
}

function judge<T>(schema: z.ZodType<T>, entry: Entry | undefined, kind: string, name: string, where: string): T {
  if (entry === undefined) {
    throw kubeFault('kube.config', `there is no ${kind} "${name}" in ${where}`, {
      field: `${kind}s`,
      remedy: 'Look at kubectl config get-contexts',
    })
  }
  const parsed = schema.safeParse(entry.value)
  if (!parsed.success) throw malformed(parsed.error, `${entry.file}: ${kind} "${name}"`)
  return parsed.data
}

function malformed(error: z.ZodError, where: string): Error {
  const issue = error.issues[0]
  const field = issue?.path.map(String).join('.') ?? ''
  return kubeFault('kube.config', `${where}: ${field === '' ? '' : `${field}: `}${issue?.message ?? 'malformed'}`, {
    field,
  })
}

function connectionOf(
  cluster: z.infer<typeof clusterSchema>,
  clusterFile: string,
  user: Partial<z.infer<typeof userSchema>>,
  userFile: string,
  namespace: string,
): Connection {
  if (cluster['proxy-url']) {
    throw kubeFault('kube.config', `${clusterFile}: proxy-url is not supported`, {
      field: 'proxy-url',
      remedy: 'Reach the API server directly, or through kubectl proxy and server: http://127.0.0.1:8001',
    })
  }
  const cert = pemOf(user['client-certificate-data'], user['client-certificate'], userFile, 'client-certificate-data')
  const key = pemOf(user['client-key-data'], user['client-key'], userFile, 'client-key-data')
  if ((cert === undefined) !== (key === undefined)) {
    throw kubeFault('kube.config', `${userFile}: client certificate and key are only useful together`, {
      field: cert === undefined ? 'client-certificate' : 'client-key',
    })
  }
  return {
    server: serverUrl(cluster.server, clusterFile),
    namespace,
    ca: pemOf(
      cluster['certificate-authority-data'],
      cluster['certificate-authority'],
      clusterFile,
      'certificate-authority-data',
    ),
    tlsServerName: cluster['tls-server-name'] || undefined,
    insecure: cluster['insecure-skip-tls-verify'] ?? false,
    certificate: cert === undefined || key === undefined ? undefined : { cert, key },
    credential: credentialOf(user, userFile),
    impersonate: impersonation(user),
  }
}

function serverUrl(server: string, where: string): URL {
  const url = URL.parse(server.includes('://') ? server : `https://${server}`)
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw kubeFault('kube.config', `${where}: server "${server}" is no URL`, { field: 'server' })
  }
  return url
}

function credentialOf(user: Partial<z.infer<typeof userSchema>>, file: string): Credential {
  // kubectl's order: a token file is fresher than the token beside it
  if (user.tokenFile) return { kind: 'token-file', file: resolve(file, user.tokenFile) }
  if (user.token) return { kind: 'token', token: user.token }
  if (user.username) return { kind: 'basic', username: user.username, password: user.password ?? '' }
  if (!user.exec) return { kind: 'none' }
  const { exec } = user
  return {
    kind: 'exec',
    spec: {
      apiVersion: exec.apiVersion,
      // a name without a slash is looked up in PATH, as a shell does
      command: exec.command.includes('/') ? resolve(file, exec.command) : exec.command,
      args: exec.args ?? [],
      env: Object.fromEntries((exec.env ?? []).map(({ name, value }) => [name, value])),
      installHint: exec.installHint || undefined,
      provideClusterInfo: exec.provideClusterInfo ?? false,
      interactive: exec.interactiveMode !== 'Never',
    },
  }
}

function impersonation(user: Partial<z.infer<typeof userSchema>>): Record<string, string | readonly string[]> {
  const headers: Record<string, string | readonly string[]> = {}
  if (user.as) headers['Impersonate-User'] = user.as
  if (user['as-uid']) headers['Impersonate-Uid'] = user['as-uid']
  if (user['as-groups']?.length) headers['Impersonate-Group'] = user['as-groups']
  for (const [name, values] of Object.entries(user['as-user-extra'] ?? {})) {
    headers[`Impersonate-Extra-${encodeURIComponent(name)}`] = values
  }
  return headers
}

function pemOf(
  data: string | null | undefined,
  path: string | null | undefined,
  file: string,
  field: string,
): Pem | undefined {
  if (data) {
    const pem = Buffer.from(data, 'base64').toString('utf8')
    if (!pem.includes('-----BEGIN '))
      throw kubeFault('kube.config', `${file}: ${field} is no base64 of a PEM text`, { field })
    return { pem }
  }
  return path ? { file: resolve(file, path) } : undefined
}

function resolve(kubeconfig: string, path: string): string {
  return isAbsolute(path) ? path : join(dirname(kubeconfig), path)
}
