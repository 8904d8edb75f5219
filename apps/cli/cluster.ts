import { NAMESPACE } from '#core/api/names.ts'
import { KubeClient } from '#io/kube/client.ts'
import type { CliContext } from './context.ts'
import type { ClusterFlags } from './flags.ts'

export interface Cluster {
  readonly client: KubeClient
  /** Where agents and operator run: `-n`, `CILIUM_NAMESPACE`, or kube-system; not the kubeconfig's. */
  readonly namespace: string
}

/** Nothing is asked of the cluster yet. */
export async function connectCluster(context: CliContext, flags: ClusterFlags): Promise<Cluster> {
  return {
    client: await KubeClient.connect({
      kubeconfig: flags.kubeconfig,
      context: flags.context,
      as: flags.as,
      asGroups: flags.asGroup,
      env: context.env,
    }),
    namespace: flags.namespace ?? (context.env['CILIUM_NAMESPACE'] || NAMESPACE),
  }
}
