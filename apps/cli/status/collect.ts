import { CILIUM_NODES } from '#core/api/cilium-node.ts'
import { AGENT_CONTAINER, CONFIG_MAP } from '#core/api/names.ts'
import type { KubeObject, Resource } from '#core/api/object.ts'
import { CONFIG_MAPS, DAEMON_SETS, DEPLOYMENTS, PODS } from '#core/api/resources.ts'
import { describeFault } from '#core/fault/fault.ts'
import type { AgentStatus } from '#core/status/agent-status.ts'
import { currentRelease } from '#io/helm/release.ts'
import type { KubeClient, Selection } from '#io/kube/client.ts'
import { hasCode } from '#io/kube/errors.ts'
import { exec } from '#io/kube/exec.ts'
import type { Cluster } from '../cluster.ts'
import { mapLimit } from '../concurrency.ts'
import { checkKey } from '../ipsec/key-check.ts'
import { placeOf } from '../ipsec/secret.ts'
import { readRotation } from '../ipsec/wait.ts'
import type { AgentAnswer, ClusterObjects, KeyObjects, PodObject } from './objects.ts'

export interface CollectOptions {
  readonly namespace: string
  readonly release: string
  /** How many agents are asked at once. */
  readonly workers: number
  /** Ask the agents only when all their pods are ready: before, the answer is known. */
  readonly lazy: boolean
  readonly signal: AbortSignal
}

const AGENT_TIMEOUT_MS = 20_000

/** Asks the API, then every agent. Never rejects for a part that cannot be asked: that is a collection error. */
export async function collectObjects(client: KubeClient, options: CollectOptions): Promise<ClusterObjects> {
  const { namespace, signal } = options
  const collectionErrors: string[] = []
  const guard = async <T>(work: Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await work
    } catch (error) {
      signal.throwIfAborted()
      collectionErrors.push(describeFault(error))
      return otherwise
    }
  }
  const all = async <T extends KubeObject>(resource: Resource<T>, scope: Selection) =>
    await guard(
      client.listAll(resource, { ...scope, signal }).then((page) => page.items),
      [] as readonly T[],
    )
  const [daemonSets, deployments, pods, ciliumNodes, config, release] = await Promise.all([
    all(DAEMON_SETS, { namespace }),
    all(DEPLOYMENTS, { namespace }),
    all(PODS, { allNamespaces: true }),
    // no such kind: nothing is installed, and the missing workloads say so
    guard(
      client.listAll(CILIUM_NODES, { signal }).then(
        (page) => page.items,
        (error: unknown) => {
          if (hasCode(error, 'kube.not-found')) return []
          throw error
        },
      ),
      [],
    ),
    guard(client.find(CONFIG_MAPS, CONFIG_MAP, { namespace, signal }), undefined),
    guard(currentRelease(client, options.release, { namespace, signal }), undefined),
  ])
  const agentPods = pods.filter(
    (pod) => pod.metadata.namespace === namespace && pod.metadata.labels?.['k8s-app'] === 'cilium',
  )
  const agents = new Map<string, AgentAnswer>()
  if (!options.lazy || agentPods.every(isReady)) {
    await mapLimit(agentPods.filter(runs), options.workers, async (pod) => {
      agents.set(pod.metadata.name, await askAgent(client, pod.metadata.name, namespace, signal))
    })
  }
  const ipsec = config?.data?.['enable-ipsec']?.trim() === 'true'
  const keys = ipsec ? await guard(readKeys({ client, namespace }, config?.data, signal), undefined) : undefined
  signal.throwIfAborted()
  return {
    namespace,
    daemonSets,
    deployments,
    pods,
    ciliumNodes,
    config,
    keys,
    agents,
    chartVersion: release?.chart.version,
    collectionErrors,
  }
}

async function readKeys(
  cluster: Cluster,
  config: Readonly<Record<string, string>> | undefined,
  signal: AbortSignal,
): Promise<KeyObjects> {
  const check = await checkKey(cluster, placeOf(config), signal)
  const rotation = check.state === 'good' ? await readRotation(cluster, check.key, signal) : undefined
  return { check, rotation }
}

/** `cilium status -o json` in one agent. */
async function askAgent(client: KubeClient, pod: string, namespace: string, signal: AbortSignal): Promise<AgentAnswer> {
  try {
    return {
      ok: true,
      status: await agentJson<AgentStatus>(client, pod, ['cilium', 'status', '-o', 'json'], { namespace, signal }),
    }
  } catch (error) {
    signal.throwIfAborted()
    return { ok: false, error: describeFault(error) }
  }
}

/** What a command of the agent's own tool prints as JSON. */
export async function agentJson<T>(
  client: KubeClient,
  pod: string,
  command: readonly string[],
  options: { readonly namespace: string; readonly signal: AbortSignal },
): Promise<Partial<T>> {
  const limit = AbortSignal.any([options.signal, AbortSignal.timeout(AGENT_TIMEOUT_MS)])
  const result = await exec(client, pod, command, { ...options, container: AGENT_CONTAINER, signal: limit })
  if (result.exitCode !== 0) {
    const said = (result.stderr.trim() || result.stdout.trim()).split('\n').at(-1) ?? ''
    throw new Error(`${command.join(' ')} ended with code ${result.exitCode}${said === '' ? '' : `: ${said}`}`)
  }
  let answer: unknown
  try {
    answer = JSON.parse(result.stdout)
  } catch {
    answer = undefined
  }
  if (typeof answer !== 'object' || answer === null) throw new Error(`${command.join(' ')} printed no JSON`)
  return answer
}

function runs(pod: PodObject): boolean {
  return pod.metadata.deletionTimestamp === undefined && pod.status?.phase === 'Running'
}

function isReady(pod: PodObject): boolean {
  return pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false
}
