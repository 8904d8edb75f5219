import type { FlowServices } from '#test/kit/flow-table.ts'
import type { Family, Place } from '#test/kit/flows.ts'
import type { Lab } from '#test/kit/lab.ts'

export const BOTH: readonly Family[] = [4, 6]
export const ENCRYPTED = '--set ipv6.enabled=true --set encryption.enabled=true --set encryption.type=wireguard'

/** A cluster of both families with the pods of the flow table. */
export interface DualCluster {
  readonly lab: Lab
  /** By their names without the lab's. */
  readonly nodes: Readonly<Record<string, Place>>
  /** Nodes and pods. */
  readonly place: Readonly<Record<string, Place>>
  readonly services: FlowServices
}
