import { Fault } from '#core/fault/fault.ts'
import { isAlive, type LabState } from './state.ts'

/** Process 1 of a node by its name, or by the part after the lab's: `worker2` is `kind-worker2`. */
export function nodeProcess(state: LabState, name: string): number {
  const full = nodeName(state, name)
  const id = state.nodes[full]
  if (id !== undefined && isAlive(id)) return id.pid
  throw new Fault('lab.node.off', `the node ${full} is not running`, {
    remedy: `Run \`pellicle lab node start ${full}\``,
  })
}

export function nodeName(state: LabState, name: string): string {
  const found = [name, `${state.options.name}-${name}`].find((candidate) => state.nodes[candidate] !== undefined)
  if (found !== undefined) return found
  throw new Fault('lab.node.unknown', `no node is called ${name}; there are ${Object.keys(state.nodes).join(', ')}`, {
    field: 'NODE',
  })
}
