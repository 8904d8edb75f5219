import type { NodeFacts } from '#core/api/node.ts'
import { Fault } from '#core/fault/fault.ts'
import type { KubeClient } from '#io/kube/client.ts'
import type { CliContext } from '../context.ts'
import type { Progress } from '../output/progress.ts'
import { type Values, valueAt, withValueAt } from '../values/set.ts'
import { findClusterCidrs, hasFamily, nodesHavePodCidrs } from './cluster-cidrs.ts'
import { completePool, takenCidrs } from './pool.ts'
import { readClusterTexts, readNodes } from './surroundings.ts'

/** The controller manager gives a node its pod CIDR a moment after the node has registered. */
const POD_CIDR_WAIT_MS = 15_000

/**
 * What a user need not say, found in the cluster: pod prefixes, IPAM mode, address families. What was given stays.
 * `deployed`: the values of the release that is there.
 * @throws Fault `install.*` with the value to give
 */
export async function completeValues(
  context: CliContext,
  client: KubeClient,
  given: Values,
  progress: Progress,
  deployed: Values = {},
): Promise<Values> {
  if (valueAt(given, 'ipam.mode') === 'cluster-pool') {
    const [nodes, texts] = [await readNodes(client, context.signal), await readClusterTexts(client, context.signal)]
    const taken = await takenCidrs(client, nodes, texts, context.signal)
    const { values, lines } = completePool(given, texts, taken, deployed)
    for (const line of lines) progress.say(line)
    return values
  }
  const nodes = await nodesWithCidrs(context, client, progress)
  let values = given
  if (valueAt(given, 'ipam.mode') === undefined && nodes.length > 0) {
    progress.say('🔮 Auto-detected IPAM mode: kubernetes')
    values = withValueAt(values, 'ipam.mode', 'kubernetes')
  }
  const said = valueAt(given, 'pellicle.clusterCIDRs')
  const texts = await readClusterTexts(client, context.signal)
  const { cidrs, from } = findClusterCidrs(Array.isArray(said) ? said.map(String) : [], texts, nodes)
  values = withValueAt(values, 'pellicle.clusterCIDRs', [...cidrs])
  if (said === undefined) progress.say(`🔮 Auto-detected pod prefixes of the cluster: ${cidrs.join(', ')} (${from})`)
  for (const [family, name, standard] of [
    [4, 'ipv4.enabled', true],
    [6, 'ipv6.enabled', false],
  ] as const) {
    const there = hasFamily(cidrs, family)
    const wanted = valueAt(values, name)
    if (wanted === true && !there) {
      throw new Fault(
        'install.family',
        `${name} is true, but the cluster has no IPv${family} pod prefix: ${cidrs.join(', ')}`,
        {
          field: name,
          remedy: `Leave it out, or add an IPv${family} prefix to pellicle.clusterCIDRs`,
        },
      )
    }
    if (wanted === undefined && there !== standard) {
      progress.say(`🔮 Auto-detected ${name}=${there}`)
      values = withValueAt(values, name, there)
    }
  }
  return values
}

async function nodesWithCidrs(context: CliContext, client: KubeClient, progress: Progress): Promise<NodeFacts[]> {
  const end = context.clock.now() + POD_CIDR_WAIT_MS
  for (;;) {
    const nodes = await readNodes(client, context.signal)
    if (nodes.length === 0 || nodesHavePodCidrs(nodes)) return nodes
    const without = nodes.filter((node) => node.podCidrs.length === 0).map((node) => node.name)
    if (context.clock.now() > end) {
      throw new Fault('install.ipam', `these nodes have no pod CIDR of Kubernetes: ${without.join(', ')}`, {
        field: 'ipam.mode',
        remedy:
          'Run the controller manager with --allocate-node-cidrs=true and --cluster-cidr, or add --set ipam.mode=cluster-pool: then the operator gives them',
      })
    }
    progress.pass(`⌛ Waiting for pod CIDRs of ${without.join(', ')}`)
    await context.clock.sleep(500, context.signal)
  }
}
