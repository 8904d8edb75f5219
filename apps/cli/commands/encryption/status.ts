import { CILIUM_NODES, type CiliumNode, type NodeAnnouncement, readCiliumNode } from '#core/api/cilium-node.ts'
import { PODS } from '#core/api/resources.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import type { EncryptionStatus } from '#core/status/encryption-status.ts'
import { hasCode } from '#io/kube/errors.ts'
import { type Cluster, connectCluster } from '../../cluster.ts'
import { mapLimit } from '../../concurrency.ts'
import type { CliContext } from '../../context.ts'
import type { ClusterFlags } from '../../flags.ts'
import { readNodes } from '../../install/surroundings.ts'
import { nodeKeys, rotationProgress } from '../../ipsec/rotation.ts'
import { currentKey, readUserSecret, secretPlace } from '../../ipsec/secret.ts'
import { readRotationView } from '../../ipsec/wait.ts'
import { agentJson } from '../../status/collect.ts'
import type { IpsecFacts } from './ipsec-report.ts'
import { formatNodes, formatReport, type NodeAnswers, nodeDocuments, reportOf } from './report.ts'

export interface EncryptionStatusFlags extends ClusterFlags {
  readonly agentPodSelector: string
  readonly node: string | undefined
  readonly perNodeDetails: boolean
  /** Milliseconds. */
  readonly waitDuration: number
  readonly output: 'summary' | 'json'
}

export async function encryptionStatus(this: CliContext, flags: EncryptionStatusFlags): Promise<Error | undefined> {
  const { client, namespace } = await connectCluster(this, flags)
  const signal = AbortSignal.any([this.signal, AbortSignal.timeout(flags.waitDuration)])
  const { items } = await client.listAll(PODS, {
    namespace,
    labelSelector: flags.agentPodSelector,
    fieldSelector: flags.node === undefined ? undefined : `spec.nodeName=${flags.node}`,
    signal,
  })
  if (items.length === 0) {
    const where = flags.node === undefined ? '' : ` on node ${flags.node}`
    return failure(`no agent pods ${flags.agentPodSelector}${where} in namespace ${namespace}`)
  }
  const answers = new Map<string, Partial<EncryptionStatus>>()
  const wrong: string[] = []
  await mapLimit(
    items.toSorted((a, b) => (a.spec?.nodeName ?? '').localeCompare(b.spec?.nodeName ?? '')),
    items.length,
    async (pod) => {
      const node = pod.spec?.nodeName ?? pod.metadata.name
      answers.set(node, {})
      try {
        const command = ['cilium', 'encrypt', 'status', '-o', 'json']
        answers.set(node, await agentJson<EncryptionStatus>(client, pod.metadata.name, command, { namespace, signal }))
      } catch (error) {
        this.signal.throwIfAborted()
        const why = describeFault(error)
        wrong.push(`${node}: ${why}`)
        answers.set(node, { msg: `its agent does not answer: ${why}` })
      }
    },
  )
  if (wrong.length === items.length) return failure(wrong.join('; '))
  const ciliumNodes = (await client.listAll(CILIUM_NODES, { signal })).items
  const names = ciliumNodes.map(readCiliumNode)
  const all = await ipsecFacts({ client, namespace }, answers, ciliumNodes, signal)
  const nodes = all.nodes.filter(({ name }) => flags.node === undefined || flags.node === name)
  const facts = { ...all, nodes, now: this.clock.now() }
  const chosen = names.filter(({ name }) => flags.node === undefined || flags.node === name)
  const report = reportOf(answers, withoutKey(answers, chosen), facts)
  const json = flags.perNodeDetails ? nodeDocuments(answers, facts) : report
  const text = flags.perNodeDetails ? formatNodes(answers, facts) : formatReport(report, facts)
  this.process.stdout.write(flags.output === 'json' ? `${JSON.stringify(json, undefined, 1)}\n` : text)
  // what the others say is worth the most while one is lost
  return wrong.length === 0 ? undefined : failure(wrong.join('; '))
}

/** Whether a node has what peers need depends on how it encrypts. */
function withoutKey(answers: NodeAnswers, nodes: readonly NodeAnnouncement[]): string[] {
  const byIpsec = [...answers.values()].some(({ mode }) => mode === 'IPsec')
  return nodes
    .filter(({ publicKey, ipsec }) => (byIpsec ? (ipsec?.receives.length ?? 0) === 0 : publicKey === undefined))
    .map(({ name }) => name)
    .sort()
}

/** Whoever may not read the Secrets gets all the rest. */
async function ipsecFacts(
  cluster: Cluster,
  answers: NodeAnswers,
  ciliumNodes: readonly CiliumNode[],
  signal: AbortSignal,
): Promise<Omit<IpsecFacts, 'now'>> {
  const facts = { expectedKeys: 2 * Math.max(0, ciliumNodes.length - 1), rotation: undefined, nodes: [] }
  if (![...answers.values()].some(({ mode }) => mode === 'IPsec')) return facts
  const known = { ...facts, nodes: nodeKeys({ nodes: await readNodes(cluster.client, signal), ciliumNodes }) }
  try {
    const { text } = await readUserSecret(cluster, await secretPlace(cluster, signal), signal)
    const view = await readRotationView(cluster, currentKey(text), signal)
    const { done, waitingFor, ...state } = rotationProgress(view)
    return { ...known, rotation: done ? undefined : { text: state.text, since: view.since, waitingFor } }
  } catch (error) {
    if (hasCode(error, 'kube.forbidden')) return known
    // what is wrong with the Secret is what people want to know of a rotation that does not begin
    if (error instanceof Fault && error.code.startsWith('ipsec.'))
      return { ...known, rotation: { text: describeFault(error), since: undefined, waitingFor: [] } }
    throw error
  }
}

function failure(why: string): Fault {
  return new Fault('encryption.status', `Unable to print encryption status: ${why}`)
}
