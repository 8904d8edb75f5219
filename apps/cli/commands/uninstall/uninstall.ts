import { CILIUM_NODES } from '#core/api/cilium-node.ts'
import { KEPT_SECRET } from '#core/api/ipsec-secrets.ts'
import { OPERATOR_LEASE } from '#core/api/names.ts'
import { CRDS, LEASES, PODS, SECRETS } from '#core/api/resources.ts'
import { Fault } from '#core/fault/fault.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { type Cluster, connectCluster } from '../../cluster.ts'
import type { CliContext } from '../../context.ts'
import type { ClusterFlags } from '../../flags.ts'
import { helmOf } from '../../install/deploy.ts'
import { examine, OUR_LABEL } from '../../install/foreign.ts'
import { CILIUM_NODE_CRD as CRD, lookAround, readNodes } from '../../install/surroundings.ts'
import { Progress } from '../../output/progress.ts'
import { type CleanupState, cleanNodes, cleanupFault, readCleanup } from './cleanup.ts'

export interface UninstallFlags extends ClusterFlags {
  readonly helmReleaseName: string
  /** Milliseconds. */
  readonly waitDuration: number
  readonly force: boolean
  readonly wait: boolean
  readonly interactive: boolean
}

/** Of agents, keeper and operator. */
const OUR_PODS = ['k8s-app=cilium', 'k8s-app=pellicle-keeper', 'name=cilium-operator']
const GONE_MS = 90_000

export async function uninstall(this: CliContext, flags: UninstallFlags): Promise<Error | undefined> {
  const progress = new Progress(this, flags.interactive)
  const cluster = await connectCluster(this, flags)
  const { client, namespace } = cluster
  const around = await lookAround(client, { namespace, release: flags.helmReleaseName, signal: this.signal })
  const found = examine(around)
  if (found.kind === 'foreign') {
    throw new Fault('uninstall.foreign', `this is not ours to remove: ${found.fault.message}`, {
      ...(found.fault.field === undefined ? {} : { field: found.fault.field }),
      cause: undefined,
    })
  }
  let closed: readonly string[] = []
  if (found.kind === 'ours') {
    const state = await cleanNodes(client, {
      clock: this.clock,
      // without agents nobody would answer
      duration: found.broken && around.release === undefined ? 0 : flags.waitDuration,
      signal: this.signal,
      onProgress: ({ done, waiting, failed }) =>
        progress.pass(
          `🧹 ${done.length} of ${done.length + waiting.length + failed.size} nodes are clean` +
            (waiting.length === 0 ? '' : ` · waiting for ${waiting.join(', ')}`),
        ),
    })
    progress.clear()
    const fault = cleanupFault(state, this.program)
    if (fault !== undefined && !flags.force) throw fault
    if (fault !== undefined) progress.say(`⚠️  ${fault.message}: they stay closed`)
    else progress.say(`🧹 ${state.done.length} nodes are clean`)
    closed = uncleanOf(state)
  } else closed = await findClosed(this, client, flags)
  if (around.release !== undefined) {
    await (await helmOf(this, cluster, flags)).uninstall(flags.helmReleaseName)
    progress.say(`🔥 Release ${flags.helmReleaseName} is deleted`)
  }
  if (flags.wait) await podsGone(this, cluster, progress)
  // the operator, which made them, is gone by now; the user's own Secret of keys stays
  await client.delete(LEASES, OPERATOR_LEASE, { namespace, signal: this.signal })
  await client.delete(SECRETS, KEPT_SECRET, { namespace, signal: this.signal })
  if (closed.length > 0) {
    progress.say(
      `⚠️  CRD ${CRD} stays: by it the next installation knows that ${closed.join(', ')} still have our CNI and are closed. ` +
        `When they are reinstalled or gone: kubectl delete crd ${CRD}`,
    )
    return undefined
  }
  const crdGone = await deleteCrd(client, this.signal)
  if (crdGone) progress.say(`🔥 CRD ${CRD} is deleted`)
  progress.say(
    around.release === undefined && found.kind !== 'ours' && !crdGone
      ? 'ℹ️  Nothing is installed'
      : '✅ All is removed. Pods that run keep running, without a network until the next installation',
  )
  return undefined
}

/** An agent that still runs would write its CiliumNode anew, or hold what a next installation makes. */
async function podsGone(context: CliContext, { client, namespace }: Cluster, progress: Progress): Promise<void> {
  const end = context.clock.now() + GONE_MS
  for (;;) {
    const lists = await Promise.all(
      OUR_PODS.map((labelSelector) => client.listAll(PODS, { namespace, labelSelector, signal: context.signal })),
    )
    const names = lists.flatMap((list) => list.items.map((pod) => pod.metadata.name))
    if (names.length === 0) break
    if (context.clock.now() > end) {
      throw new Fault('uninstall.pods', `these pods do not end: ${names.join(', ')}`, {
        field: names.map((name) => `pod/${name}`).join(', '),
        remedy: 'Look at their nodes; delete them with kubectl delete pod --force if a node is gone, and run it again',
      })
    }
    progress.pass(`⌛ Waiting for ${names.length} pods to end`)
    await context.clock.sleep(300, context.signal)
  }
  progress.clear()
}

/**
 * After a bare `helm uninstall`, or one with `--force`, nobody is left who could clean the nodes, but their CiliumNodes
 * still tell of them: with the CRD the last trace would go, and an installation would take them for another CNI's.
 * @returns their names, when that is accepted by `--force`
 */
async function findClosed(context: CliContext, client: KubeClient, flags: UninstallFlags): Promise<readonly string[]> {
  const crd = await client.find(CRDS, CRD, { signal: context.signal })
  if (crd?.metadata.labels?.[OUR_LABEL] === undefined) return []
  const state = readCleanup(
    (await client.listAll(CILIUM_NODES, { signal: context.signal })).items,
    new Set((await readNodes(client, context.signal)).map((node) => node.name)),
  )
  const closed = uncleanOf(state)
  if (closed.length === 0 || flags.force) return closed
  throw new Fault(
    'uninstall.closed',
    `the release is gone, but these nodes were not cleaned and are closed: ${closed.join(', ')}`,
    {
      field: closed.map((name) => `node/${name}`).join(', '),
      remedy: `Run ${context.program} install and then ${context.program} uninstall`,
    },
  )
}

function uncleanOf({ waiting, failed }: CleanupState): readonly string[] {
  return [...waiting, ...failed.keys()]
}

/** Only a CRD that our chart made: with it all CiliumNodes go. */
async function deleteCrd(client: KubeClient, signal: AbortSignal): Promise<boolean> {
  const crd = await client.find(CRDS, CRD, { signal })
  if (crd?.metadata.labels?.[OUR_LABEL] === undefined) return false
  return await client.delete(CRDS, CRD, { signal })
}
