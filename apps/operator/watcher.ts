import { CILIUM_NODES, parseCiliumNode, readCiliumNode } from '#core/api/cilium-node.ts'
import type { AgentConfig } from '#core/api/config.ts'
import { NODES, readNode } from '#core/api/node.ts'
import type { KubeObject } from '#core/api/object.ts'
import { describeFault } from '#core/fault/fault.ts'
import { IPSEC_WORDS_ANNOTATION, parseIpsecWords } from '#core/ipsec/words.ts'
import type { RotationPeer } from '#core/transition/rotation.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { EventRecorder } from '#io/kube/events.ts'
import { Informer } from '#io/kube/informer.ts'
import type { Log } from '#io/telemetry/log.ts'
import { FINDING_REASONS, type Finding, findTroubles } from './findings.ts'
import { KeyKeeper } from './ipsec/key-keeper.ts'
import type { OperatorMetrics } from './metrics.ts'
import { Orphans } from './orphans.ts'
import { PodCidrs } from './pod-cidrs.ts'
import { Troubles } from './troubles.ts'

export interface WatcherOptions {
  readonly client: KubeClient
  /** Where agents and operator run, and the Secrets of keys are. */
  readonly namespace: string
  readonly config: AgentConfig
  readonly log: Log
  readonly metrics: OperatorMetrics
  /** Between two looks when nothing changes; standard 5 s. */
  readonly periodMs?: number
  /** How long a CiliumNode outlives its Node; standard 30 s. */
  readonly graceMs?: number
}

/** Changes that come together are looked at together. */
const SETTLE_MS = 200

/** What the leading operator does until `signal` is aborted: watches nodes, tells what is wrong, deletes what is left over. */
export async function watchCluster(options: WatcherOptions, signal: AbortSignal): Promise<void> {
  const { client, namespace, config, log, metrics } = options
  const recorder = new EventRecorder(client, 'pellicle.io/operator', (error) =>
    log.debug('event not written', { error: describeFault(error) }),
  )
  const orphans = new Orphans(client)
  const troubles = new Troubles()
  const podCidrs = config.ipam === 'cluster-pool' ? new PodCidrs({ client, config, log, metrics }) : undefined
  let wake = Promise.withResolvers<void>()
  const onChange = () => {
    wake.resolve()
    keys.poke()
  }
  const onFailure = (error: unknown, retryInMs: number) =>
    log.warn('watching the cluster failed, the last known state is kept', {
      error: describeFault(error),
      'retry-in-ms': Math.round(retryInMs),
    })
  const nodes = new Informer(client, NODES, { onChange, onFailure, keep: onlyWhatWeRead }).start()
  const ciliumNodes = new Informer(client, CILIUM_NODES, { onChange, onFailure }).start()
  const keys = new KeyKeeper({
    client,
    namespace,
    secret: config.ipsec.secret,
    wanted: config.encryption === 'ipsec',
    userspace: config.datapath !== 'kernel',
    recorder,
    log,
    metrics,
    nodes: saidOfKeys,
  }).start()
  try {
    await Promise.race([Promise.all([nodes.synced, ciliumNodes.synced]), aborted(signal)])
    while (!signal.aborted) {
      wake = Promise.withResolvers<void>()
      await look()
      await Promise.race([wake.promise, pause(options.periodMs ?? 5000)])
      await pause(SETTLE_MS)
    }
  } finally {
    await Promise.all([nodes.stop(), ciliumNodes.stop(), keys.stop()])
  }

  /** A node that is gone from the cluster does not count, whatever its CiliumNode still says. */
  function saidOfKeys(): readonly RotationPeer[] | undefined {
    const isKnown = [nodes, ciliumNodes].every((informer) => {
      const { synced, staleMs } = informer.health()
      return synced && staleMs === 0
    })
    if (!isKnown) return undefined
    return nodes.list().map(({ metadata: { name } }) => {
      const text = ciliumNodes.get(name)?.metadata.annotations?.[IPSEC_WORDS_ANNOTATION]
      // whatever cannot be read is no sign that there is nothing
      return { name, words: text === undefined ? undefined : (parseIpsecWords(text) ?? { receives: [], sends: [] }) }
    })
  }

  async function look(): Promise<void> {
    const stale = Math.max(nodes.health().staleMs, ciliumNodes.health().staleMs)
    metrics.stale.set(stale / 1000)
    // an old copy decides nothing that cannot be taken back
    if (stale === 0) await podCidrs?.look(ciliumNodes.list(), new Set(nodes.list().map(nameOf)), signal)
    const view = {
      nodes: nodes.list().map(readNode),
      announcements: ciliumNodes.list().flatMap((node) => {
        const parsed = parseCiliumNode(node)
        return parsed.ok ? [readCiliumNode(parsed.value)] : []
      }),
      config,
      podCidrFaults: podCidrs?.faults ?? new Map(),
    }
    const report = troubles.update(client.clock.steady(), findTroubles(view))
    for (const finding of report.tell) await tell(finding)
    for (const { reason, node } of report.resolved) log.info('resolved', { reason, node })
    const counts = troubles.counts()
    for (const reason of FINDING_REASONS) metrics.troubles.set({ reason }, counts.get(reason) ?? 0)
    metrics.nodes.set(view.nodes.length)
    if (stale > 0) return
    try {
      const names = new Set(view.nodes.map((node) => node.name))
      for (const name of await orphans.sweep(ciliumNodes.list(), names, options.graceMs, signal)) {
        metrics.deleted.inc()
        log.info('deleted the CiliumNode of a node that is gone', { node: name })
      }
    } catch (error) {
      if (!signal.aborted) log.warn('left-over CiliumNode not deleted', { error: describeFault(error) })
    }
  }

  async function tell(finding: Finding): Promise<void> {
    log.warn(finding.sentence, { reason: finding.reason, node: finding.node, remedy: finding.remedy })
    const uid = nodes.get(finding.node)?.metadata.uid
    await recorder.record(
      {
        regarding: { apiVersion: 'v1', kind: 'Node', name: finding.node, ...(uid === undefined ? {} : { uid }) },
        type: 'Warning',
        reason: finding.reason,
        action: 'Check',
        note: `${finding.sentence}. ${finding.remedy}`,
      },
      signal,
    )
  }

  async function pause(ms: number): Promise<void> {
    await client.clock.sleep(ms, signal).catch(() => undefined)
  }
}

function nameOf({ metadata }: KubeObject): string {
  return metadata.name
}

/** Images, conditions and labels of a thousand nodes are most of their bytes. */
function onlyWhatWeRead(node: Parameters<typeof readNode>[0]): Parameters<typeof readNode>[0] {
  const { metadata, spec, status } = node
  return {
    metadata: {
      name: metadata.name,
      uid: metadata.uid,
      resourceVersion: metadata.resourceVersion,
      labels: metadata.labels,
    },
    ...(spec === undefined ? {} : { spec }),
    status: { addresses: status?.addresses ?? [] },
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
