import { CONFIG_KEYS, parseConfig } from '#core/api/config.ts'
import { AGENT_DAEMONSET, CONFIG_MAP, OPERATOR_DEPLOYMENT } from '#core/api/names.ts'
import { nearest } from '#core/api/nearest.ts'
import { poolChangeFaults } from '#core/api/pool.ts'
import { CONFIG_MAPS, DAEMON_SETS, DEPLOYMENTS } from '#core/api/resources.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import { formatColumns } from '#core/status/columns.ts'
import { hasCode } from '#io/kube/errors.ts'
import { type Cluster, connectCluster } from '../../cluster.ts'
import type { CliContext } from '../../context.ts'
import type { ClusterFlags } from '../../flags.ts'

export interface ChangeFlags extends ClusterFlags {
  readonly restart: boolean
}

export async function view(this: CliContext, flags: ClusterFlags): Promise<Error | undefined> {
  return await prefixed('Unable to view config:  ', async () => {
    const data = await readConfig(this, await connectCluster(this, flags))
    this.process.stdout.write(formatConfig(data))
  })
}

export async function set(
  this: CliContext,
  flags: ChangeFlags,
  key: string,
  value: string,
): Promise<Error | undefined> {
  return await prefixed('Unable to set config:  ', async () => {
    const cluster = await connectCluster(this, flags)
    const before = await readConfig(this, cluster)
    judgeChange(before, { ...before, [key]: value }, key)
    this.process.stdout.write(`✨ Patching ConfigMap ${CONFIG_MAP} with ${key}=${value}...\n`)
    await change(this, cluster, flags, { [key]: value })
  })
}

export async function remove(this: CliContext, flags: ChangeFlags, key: string): Promise<Error | undefined> {
  return await prefixed('Unable to delete config:  ', async () => {
    const cluster = await connectCluster(this, flags)
    const before = await readConfig(this, cluster)
    const { [key]: gone, ...rest } = before
    if (gone === undefined) {
      throw new Fault('config.absent', `ConfigMap ${CONFIG_MAP} has no key ${key}`, {
        field: key,
        ...didYouMean(nearest(key, Object.keys(rest))),
      })
    }
    judgeChange(before, rest, undefined)
    this.process.stdout.write(`✨ Removing key ${key} from ConfigMap ${CONFIG_MAP}...\n`)
    await change(this, cluster, flags, { [key]: null })
  })
}

/** Two columns, sorted by key. */
export function formatConfig(data: Readonly<Record<string, string>>): string {
  const keys = Object.keys(data).sort()
  return formatColumns(
    keys.map((key) => [key, data[key] ?? '']),
    4,
  )
}

/**
 * The whole ConfigMap as it would be: agents refuse to start with a wrong one, so it is not written.
 * @throws Fault with every fault of it
 */
export function judgeChange(
  before: Readonly<Record<string, string>>,
  data: Readonly<Record<string, string>>,
  key: string | undefined,
): void {
  if (key !== undefined && !Object.hasOwn(CONFIG_KEYS, key)) {
    throw new Fault('config.unknown', `${key} means nothing to the agents`, {
      field: key,
      ...didYouMean(nearest(key, Object.keys(CONFIG_KEYS))),
    })
  }
  const parsed = parseConfig(data)
  const now = parseConfig(before)
  const faults = !parsed.ok ? parsed.error : now.ok ? poolChangeFaults(now.value.config, parsed.value.config) : []
  const [first, ...more] = faults
  if (first === undefined) return
  if (more.length === 0) throw first
  throw new Fault('config.invalid', faults.map((fault) => describeFault(fault)).join('; '), { field: CONFIG_MAP })
}

async function change(
  context: CliContext,
  { client, namespace }: Cluster,
  flags: ChangeFlags,
  data: Readonly<Record<string, string | null>>,
): Promise<void> {
  const scope = { namespace, signal: context.signal }
  await client.patch(CONFIG_MAPS, CONFIG_MAP, { data }, scope)
  if (!flags.restart) {
    context.process.stdout.write('⚠️  Restart Cilium pods for configmap changes to take effect\n')
    return
  }
  // as kubectl rollout restart does: a few nodes at a time, and nothing is lost
  const restartedAt = new Date(context.clock.now()).toISOString()
  const annotations = { 'kubectl.kubernetes.io/restartedAt': restartedAt }
  const patch = { spec: { template: { metadata: { annotations } } } }
  await client.patch(DAEMON_SETS, AGENT_DAEMONSET, patch, { ...scope, kind: 'strategic' })
  // it too reads its configuration when it starts: a prefix that was added to the pool would not be used
  await client
    .patch(DEPLOYMENTS, OPERATOR_DEPLOYMENT, patch, { ...scope, kind: 'strategic' })
    .catch((error: unknown) => {
      // operator.enabled=false
      if (!hasCode(error, 'kube.not-found')) throw error
    })
  context.process.stdout.write('♻️  Restarted Cilium pods\n')
}

async function readConfig(
  context: CliContext,
  { client, namespace }: Cluster,
): Promise<Readonly<Record<string, string>>> {
  const map = await client.get(CONFIG_MAPS, CONFIG_MAP, { namespace, signal: context.signal })
  return map.data ?? {}
}

async function prefixed(prefix: string, work: () => Promise<void>): Promise<Error | undefined> {
  try {
    await work()
    return undefined
  } catch (error) {
    return new Fault('config.failed', `${prefix}${describeFault(error)}`)
  }
}

function didYouMean(close: string | undefined): { readonly remedy?: string } {
  return close === undefined ? {} : { remedy: `Did you mean ${close}?` }
}
