import { describeFault, Fault } from '#core/fault/fault.ts'
import { type Cluster, connectCluster } from '../../cluster.ts'
import type { CliContext } from '../../context.ts'
import type { ClusterFlags } from '../../flags.ts'
import { painter } from '../../output/colour.ts'
import { Progress } from '../../output/progress.ts'
import { collectObjects } from '../../status/collect.ts'
import { computeStatus, problemsOf, type StatusDocument } from '../../status/document.ts'
import { formatSummary } from '../../status/summary.ts'
import { waitForStatus } from '../../status/wait.ts'

export interface StatusFlags extends ClusterFlags {
  readonly wait: boolean
  /** Milliseconds. */
  readonly waitDuration: number
  readonly ignoreWarnings: boolean
  readonly interactive: boolean
  readonly workerCount: number
  readonly output: 'summary' | 'json'
  readonly helmReleaseName: string
}

export async function status(this: CliContext, flags: StatusFlags): Promise<Error | undefined> {
  const cluster = await connectCluster(this, flags)
  if (flags.wait) return await awaitStatus(this, cluster, flags)
  const document = await askStatus(this, cluster, flags, false)
  this.process.stdout.write(render(this, document, flags.output, 'stdout'))
  if (document.collection_errors.length === 0) return undefined
  return new Fault('status.collection', `status check failed: [${document.collection_errors.join(', ')}]`)
}

/** Also for `--wait` of install and upgrade. Prints the last document whatever comes out. */
export async function awaitStatus(
  context: CliContext,
  cluster: Cluster,
  flags: Pick<
    StatusFlags,
    'waitDuration' | 'ignoreWarnings' | 'interactive' | 'workerCount' | 'output' | 'helmReleaseName'
  >,
): Promise<Error | undefined> {
  const progress = new Progress(context, flags.interactive)
  const { document, fault } = await waitForStatus(() => askStatus(context, cluster, flags, true), {
    clock: context.clock,
    duration: flags.waitDuration,
    ignoreWarnings: flags.ignoreWarnings,
    signal: context.signal,
    onProgress: (seen) => progress.pass(progressLine(seen)),
  })
  progress.clear()
  if (fault === undefined) {
    context.process.stdout.write(render(context, document, flags.output, 'stdout'))
    return undefined
  }
  context.process.stderr.write(render(context, document, flags.output, 'stderr'))
  return new Fault('status.timeout', `Unable to determine status:  ${describeFault(fault)}`)
}

async function askStatus(
  context: CliContext,
  { client, namespace }: Cluster,
  flags: Pick<StatusFlags, 'workerCount' | 'helmReleaseName'>,
  lazy: boolean,
): Promise<StatusDocument> {
  const objects = await collectObjects(client, {
    namespace,
    release: flags.helmReleaseName,
    workers: flags.workerCount,
    lazy,
    signal: context.signal,
  })
  return computeStatus(objects)
}

function render(
  context: CliContext,
  document: StatusDocument,
  output: 'summary' | 'json',
  stream: 'stdout' | 'stderr',
): string {
  if (output === 'json') return `${JSON.stringify(document, undefined, 1)}\n`
  return formatSummary(document, painter(context.terminal[stream], context.env))
}

function progressLine(document: StatusDocument): string {
  const states = Object.entries(document.pod_state).map(([name, { Ready, Desired }]) => `${name} ${Ready}/${Desired}`)
  const { errors, warnings } = problemsOf(document)
  const first = errors[0] ?? warnings[0]
  return `⌛ ${states.join(', ')}${first === undefined ? '' : ` · ${first}`}`
}
