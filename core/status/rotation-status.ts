/** What a node does with IPsec keys: in the agent's status, for `pellicle encryption status`. */
export interface RotationStatus {
  /** One line. */
  readonly text: string
  /** `ID:FINGERPRINT`, oldest first: what this node receives by, what it may still send by. */
  readonly receives: readonly string[]
  readonly sends: readonly string[]
  /** RFC 3339; since when more than one key is held. */
  readonly since?: string
  /** Names of nodes without which it does not go on, sorted. */
  readonly 'waiting-for': readonly string[]
  readonly nodes: readonly RotationNodeStatus[]
  /** Why the newest key text is not what counts, with what to do. */
  readonly problem?: string
}

interface RotationNodeStatus {
  readonly node: string
  readonly receives: readonly string[]
  readonly sends: readonly string[]
  /** What this node sends by to it; absent: there is no key that both have. */
  readonly 'sends-by'?: string
  /** Something authenticated came from it since it or this node began. */
  readonly heard: boolean
}

/** Lines of `cilium-dbg status`: nothing while one key is in use and nothing is wrong. */
export function rotationLines(rotation: RotationStatus | undefined, verbose: boolean): string[][] {
  if (rotation === undefined) return []
  const { text, since, nodes, problem } = rotation
  const busy = rotation.receives.length !== 1 || rotation['waiting-for'].length > 0
  const lines = busy || verbose ? [['IPsec keys:', text, ...(since === undefined ? [] : [`since ${since}`])]] : []
  if (problem !== undefined) lines.push(['IPsec key problem:', problem])
  if (!verbose) return lines
  const ids = (keys: readonly string[]) => keys.map((key) => key.split(':')[0]).join(',') || 'none'
  return [
    ...lines,
    ...nodes.map(({ node, receives, sends, heard, ...rest }) => [
      `  ${node}`,
      `receives ${ids(receives)}, sends ${ids(sends)}`,
      `${rest['sends-by'] === undefined ? 'no common key' : `sent to by ${ids([rest['sends-by']])}`}${heard ? '' : ', not heard yet'}`,
    ]),
  ]
}
