import { Fault } from '#core/fault/fault.ts'
import { type Cluster, connectCluster } from '../../cluster.ts'
import type { CliContext } from '../../context.ts'
import { takeCleanupBack } from '../../install/cleanup-request.ts'
import { completeValues } from '../../install/complete.ts'
import { deploy, judged, valuesOf } from '../../install/deploy.ts'
import type { DeployFlags } from '../../install/flags.ts'
import { examine } from '../../install/foreign.ts'
import { warnAboutKey } from '../../install/ipsec-key.ts'
import { lookAround } from '../../install/surroundings.ts'
import { Progress } from '../../output/progress.ts'

/** Kubelets notice within this that the CNI of an installation just removed is gone, and say NotReady. */
const SUSPICION_MS = 20_000

export async function install(this: CliContext, flags: DeployFlags): Promise<Error | undefined> {
  const progress = new Progress(this, flags.interactive)
  const given = await valuesOf(flags, progress)
  const values = judged(given, given.given)
  const cluster = await connectCluster(this, flags)
  await requireFree(this, cluster, flags, progress)
  const complete = await completeValues(this, cluster.client, values, progress)
  await warnAboutKey(cluster, complete, progress, this.signal)
  if (!flags.dryRun) await takeCleanupBack(cluster.client, this.signal)
  return await deploy(this, cluster, flags, complete, progress)
}

/** @throws Fault `install.foreign`, `install.present` */
async function requireFree(
  context: CliContext,
  { client, namespace }: Cluster,
  flags: DeployFlags,
  progress: Progress,
): Promise<void> {
  const end = context.clock.now() + SUSPICION_MS
  for (;;) {
    const found = examine(
      await lookAround(client, { namespace, release: flags.helmReleaseName, signal: context.signal }),
    )
    if (found.kind === 'foreign') throw found.fault
    if (found.kind === 'ours' && !found.broken) {
      throw new Fault(
        'install.present',
        `it is installed already (release ${flags.helmReleaseName}, revision ${found.revision})`,
        {
          field: `release/${flags.helmReleaseName}`,
          remedy: `Change it with ${context.program} upgrade`,
        },
      )
    }
    if (found.kind !== 'suspicious') return
    if (context.clock.now() >= end) throw found.fault
    progress.pass('⌛ Pods have addresses on nodes that are Ready: looking whether another CNI runs')
    await context.clock.sleep(1000, context.signal)
  }
}
