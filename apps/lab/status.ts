import { layOut } from './layout.ts'
import { labPaths, stateFolder } from './paths.ts'
import { isAlive, readState } from './state.ts'

export interface LabStatus {
  readonly name: string
  /** `broken`: something of it is there, but it is neither up nor being made. */
  readonly phase: 'absent' | 'starting' | 'up' | 'broken'
  readonly api: string
  readonly kubeconfig: string
  readonly nodes: readonly NodeStatus[]
}

interface NodeStatus {
  readonly name: string
  readonly running: boolean
  readonly pid: number
  readonly addresses: readonly string[]
  readonly podCidrs: readonly string[]
}

export async function labStatus(name: string, env: Readonly<Record<string, string | undefined>>): Promise<LabStatus> {
  const paths = labPaths(stateFolder(env), name)
  const state = readState(paths)
  if (state === undefined) return { name, phase: 'absent', api: '', kubeconfig: '', nodes: [] }
  const alive = isAlive(state.underlay)
  const making = state.phase === 'starting' && isAlive(state.creator)
  return {
    name,
    phase: making ? 'starting' : alive && state.phase === 'up' ? 'up' : 'broken',
    api: `https://127.0.0.1:${state.port}`,
    kubeconfig: paths.kubeconfig,
    nodes: layOut(state.options).nodeList.map(({ name: node, addresses, podCidrs }) => ({
      name: node,
      running: isAlive(state.nodes[node]),
      pid: state.nodes[node]?.pid ?? 0,
      addresses,
      podCidrs,
    })),
  }
}
