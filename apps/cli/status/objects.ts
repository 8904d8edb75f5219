import type { CiliumNode } from '#core/api/cilium-node.ts'
import type { CONFIG_MAPS, DAEMON_SETS, DEPLOYMENTS, PODS } from '#core/api/resources.ts'
import type { AgentStatus } from '#core/status/agent-status.ts'
import type { KeyCheck } from '../ipsec/key-check.ts'
import type { RotationProgress } from '../ipsec/rotation.ts'

type ObjectOf<R extends { shape?: unknown }> = NonNullable<R['shape']>

export type PodObject = ObjectOf<typeof PODS>
export type DaemonSetObject = ObjectOf<typeof DAEMON_SETS>
type DeploymentObject = ObjectOf<typeof DEPLOYMENTS>
type ConfigMapObject = ObjectOf<typeof CONFIG_MAPS>

/** All that a status is computed from, as the API and the agents gave it. */
export interface ClusterObjects {
  /** Where agents and operator run. */
  readonly namespace: string
  readonly daemonSets: readonly DaemonSetObject[]
  readonly deployments: readonly DeploymentObject[]
  /** Of all namespaces. */
  readonly pods: readonly PodObject[]
  readonly ciliumNodes: readonly CiliumNode[]
  readonly config: ConfigMapObject | undefined
  /** Undefined: IPsec is not asked for. */
  readonly keys: KeyObjects | undefined
  /** By agent pod; a pod that was not asked is not in it. */
  readonly agents: ReadonlyMap<string, AgentAnswer>
  readonly chartVersion: string | undefined
  /** What could not be asked at all, a sentence each. */
  readonly collectionErrors: readonly string[]
}

/** Of the user's Secret, and how far all nodes are with its key. */
export interface KeyObjects {
  readonly check: KeyCheck
  /** Undefined: there is no key, or we may not see it. */
  readonly rotation: RotationProgress | undefined
}

export type AgentAnswer =
  | { readonly ok: true; readonly status: Partial<AgentStatus> }
  | { readonly ok: false; readonly error: string }
