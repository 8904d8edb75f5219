import { Helm } from '#io/helm/helm.ts'
import { locateHelm } from '#io/helm/locate.ts'
import type { Cluster } from '../cluster.ts'
import { awaitStatus } from '../commands/status/status.ts'
import type { CliContext } from '../context.ts'
import type { ClusterFlags } from '../flags.ts'
import type { Progress } from '../output/progress.ts'
import { isMap, type Values, withValueAt } from '../values/set.ts'
import type { DeployFlags } from './flags.ts'
import { chooseProfile } from './profile.ts'
import { checkValues, readValues } from './values.ts'

/**
 * What the command line says; nothing outside is asked yet, so that a slip costs nothing.
 */
export async function valuesOf(flags: DeployFlags, progress: Progress): Promise<GivenValues> {
  const read = await readValues({
    set: flags.set ?? [],
    setString: flags.setString ?? [],
    values: flags.values ?? [],
  })
  const cidr = flags.ipv4NativeRoutingCidr
  const given = cidr === undefined ? read : withValueAt(read, 'ipv4NativeRoutingCIDR', cidr)
  return { given, profile: flags.version === undefined ? undefined : chooseProfile(flags.version), progress }
}

export interface GivenValues {
  readonly given: Values
  readonly profile: ReturnType<typeof chooseProfile> | undefined
  readonly progress: Progress
}

/** Judges `merged` and adds the profile. */
export function judged({ profile, progress }: GivenValues, merged: Values): Values {
  checkValues(merged, (line) => progress.say(`ℹ️  ${line}`))
  if (profile === undefined) return merged
  progress.say(`ℹ️  Using the packets and texts of Cilium ${profile.release}`)
  for (const note of encryptionOf(merged).flatMap((type) => profile.notes[type])) progress.say(`ℹ️  ${note}`)
  return withValueAt(merged, 'pellicle.profile', profile.release)
}

/** None: no encryption is asked for. */
function encryptionOf({ encryption }: Values): readonly ('wireguard' | 'ipsec')[] {
  if (!isMap(encryption) || encryption['enabled'] !== true) return []
  return [encryption['type'] === 'wireguard' ? 'wireguard' : 'ipsec']
}

export async function helmOf(context: CliContext, cluster: Cluster, flags: ClusterFlags): Promise<Helm> {
  return new Helm({
    program: await locateHelm(context.env),
    namespace: cluster.namespace,
    kubeconfig: flags.kubeconfig,
    context: flags.context,
    as: flags.as,
    asGroups: flags.asGroup,
    env: context.env,
    signal: context.signal,
  })
}

/** Gives the release to Helm and, if asked, waits until all is well. */
export async function deploy(
  context: CliContext,
  cluster: Cluster,
  flags: DeployFlags,
  values: Values,
  progress: Progress,
): Promise<Error | undefined> {
  const helm = await helmOf(context, cluster, flags)
  const outcome = await helm.upgrade({
    release: flags.helmReleaseName,
    chart: flags.chartDirectory ?? `${context.home}/deploy/chart`,
    values,
    dryRun: flags.dryRun,
  })
  if (flags.dryRun) {
    context.process.stdout.write(outcome.manifest)
    return undefined
  }
  progress.say(`✅ Release ${flags.helmReleaseName} is at revision ${outcome.revision}`)
  if (!flags.wait) {
    progress.say(`   Wait for it: ${context.program} status --wait`)
    return undefined
  }
  return await awaitStatus(context, cluster, {
    ...flags,
    ignoreWarnings: false,
    workerCount: 5,
    output: 'summary',
  })
}
