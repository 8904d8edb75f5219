/** Whether the agents of all nodes answer each other, internal IP to internal IP. */
export interface HealthStatus {
  /** This node included, as Cilium counts. */
  readonly reachable: number
  readonly total: number
  /** RFC 3339. */
  readonly 'probed-at': string
  readonly unreachable: readonly { readonly node: string; readonly since: string }[]
}

const NAMED = 10

/** Cells of `Cluster health:` as Cilium prints them, then a line for each node that does not answer; none where nobody asks. */
export function healthLines(health: HealthStatus | undefined): string[][] {
  if (health === undefined) return []
  const { reachable, total, unreachable } = health
  const named = unreachable.slice(0, NAMED).map(({ node, since }) => [`  ${node}`, 'unreachable', `(since ${since})`])
  const more = unreachable.length > NAMED ? [[`  and ${unreachable.length - NAMED} more`]] : []
  return [['Cluster health:', `${reachable}/${total} reachable`, `(${health['probed-at']})`], ...named, ...more]
}
