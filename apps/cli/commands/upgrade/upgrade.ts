import { Fault } from '#core/fault/fault.ts'
import { connectCluster } from '../../cluster.ts'
import type { CliContext } from '../../context.ts'
import { takeCleanupBack } from '../../install/cleanup-request.ts'
import { completeValues } from '../../install/complete.ts'
import { deploy, judged, valuesOf } from '../../install/deploy.ts'
import type { DeployFlags } from '../../install/flags.ts'
import { examine } from '../../install/foreign.ts'
import { warnAboutKey } from '../../install/ipsec-key.ts'
import { lookAround } from '../../install/surroundings.ts'
import { Progress } from '../../output/progress.ts'
import { mergeValues, type Values } from '../../values/set.ts'

export interface UpgradeFlags extends DeployFlags {
  readonly resetValues: boolean
}

export async function upgrade(this: CliContext, flags: UpgradeFlags): Promise<Error | undefined> {
  const progress = new Progress(this, flags.interactive)
  const given = await valuesOf(flags, progress)
  const cluster = await connectCluster(this, flags)
  const around = await lookAround(cluster.client, {
    namespace: cluster.namespace,
    release: flags.helmReleaseName,
    signal: this.signal,
  })
  const found = examine(around)
  if (found.kind === 'foreign') throw found.fault
  if (around.release === undefined) {
    throw new Fault('upgrade.absent', `there is no release ${flags.helmReleaseName} in ${cluster.namespace}`, {
      field: `release/${flags.helmReleaseName}`,
      remedy: `Install it: ${this.program} install`,
    })
  }
  const earlier = flags.resetValues ? {} : (around.release.values as Values)
  const values = judged(given, mergeValues(earlier, given.given))
  const complete = await completeValues(this, cluster.client, values, progress, around.release.values as Values)
  await warnAboutKey(cluster, complete, progress, this.signal)
  if (!flags.dryRun) await takeCleanupBack(cluster.client, this.signal)
  return await deploy(this, cluster, flags, complete, progress)
}
