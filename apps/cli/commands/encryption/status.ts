import { CILIUM_NODES, readCiliumNode } from '#core/api/cilium-node.ts'
import { PODS } from '#core/api/resources.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import type { EncryptionStatus } from '#core/status/encryption-status.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { connectCluster } from '../../cluster.ts'
import { mapLimit } from '../../concurrency.ts'
import type { CliContext } from '../../context.ts'
import { agentJson } from '../../status/collect.ts'
import { formatNodes, formatReport, reportOf } from './report.ts'
import type { EncryptionStatusFlags } from './routes.ts'

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
        wrong.push(`${node}: ${describeFault(error)}`)
      }
    },
  )
  if (wrong.length > 0) return failure(wrong.join('; '))
  const report = reportOf(answers, await nodesWithoutKey(client, flags.node, signal))
  const json = flags.perNodeDetails ? Object.fromEntries(answers) : report
  const text = flags.perNodeDetails ? formatNodes(answers) : formatReport(report)
  this.process.stdout.write(flags.output === 'json' ? `${JSON.stringify(json, undefined, 1)}\n` : text)
  return undefined
}

async function nodesWithoutKey(client: KubeClient, only: string | undefined, signal: AbortSignal): Promise<string[]> {
  const { items } = await client.listAll(CILIUM_NODES, { signal })
  return items
    .map(readCiliumNode)
    .filter(({ name, publicKey }) => publicKey === undefined && (only === undefined || only === name))
    .map(({ name }) => name)
    .sort()
}

function failure(why: string): Fault {
  return new Fault('encryption.status', `Unable to print encryption status: ${why}`)
}
