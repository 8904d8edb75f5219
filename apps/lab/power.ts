import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '#core/fault/fault.ts'
import { machineHierarchies, processesOf } from './cgroups.ts'
import { nodeName, nodeProcess } from './inside.ts'
import type { LabLayout, LabNode } from './layout.ts'
import { openGates, serviceNames, startNode, stopNode } from './node/node.ts'
import { type LabPaths, labPaths, nodePaths, stateFolder } from './paths.ts'
import { isAlive, type LabState, processId, requireUp, writeState } from './state.ts'
import { plug } from './underlay/underlay.ts'

/** Switches a stopped node on: same disk, same name and addresses, new namespaces and a new boot of its services. */
export async function switchNodeOn(lab: string, name: string): Promise<void> {
  const { paths, state, layout, node } = find(lab, name)
  if (isAlive(state.nodes[node.name])) return
  const pid = await startNode(lab, node, nodePaths(paths, node.name), machineHierarchies())
  writeState(paths, { ...state, nodes: { ...state.nodes, [node.name]: processId(pid) } })
  await plug(layout, node, state.underlay?.pid ?? 0, pid)
  await openGates(pid, serviceNames(layout, node))
}

/** Asks everything in the node to end, gives its services half a minute and the rest two seconds, then switches it off. */
export async function shutNodeDown(lab: string, name: string): Promise<void> {
  const { state, layout, node } = find(lab, name)
  const init = nodeProcess(state, node.name)
  const hierarchies = machineHierarchies()
  const asked = processesOf(hierarchies, lab, node.name).filter((pid) => pid !== init)
  const names = new Set(serviceNames(layout, node).map((service) => service.slice(0, COMMAND_LENGTH)))
  const services = asked.filter((pid) => names.has(commandOf(pid))).map(processId)
  for (const pid of asked) signal(pid)
  await sleep(2000)
  // a busy machine: they have to write what they know
  for (let tries = 0; tries < 280 && services.some(isAlive); tries++) await sleep(100)
  await stopNode(lab, node, hierarchies)
}

/** The kernel keeps so much of a program's name (proc(5), comm). */
const COMMAND_LENGTH = 15

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
  } catch {
    return ''
  }
}

/** Ends the node at once. */
export async function killNode(lab: string, name: string): Promise<void> {
  const { state, node } = find(lab, name)
  nodeProcess(state, node.name)
  await stopNode(lab, node, machineHierarchies())
}

interface Found {
  readonly paths: LabPaths
  readonly state: LabState
  readonly layout: LabLayout
  readonly node: LabNode
}

function find(lab: string, name: string): Found {
  const paths = labPaths(stateFolder(), lab)
  const { state, layout } = requireUp(paths, lab)
  const full = nodeName(state, name)
  const node = layout.nodeList.find((candidate) => candidate.name === full)
  if (node === undefined) throw new Fault('lab.node.unknown', `no node is called ${full}`, { field: 'NODE' })
  return { paths, state, layout, node }
}

function signal(pid: number): void {
  try {
    process.kill(pid, 'SIGTERM')
  } catch {
    // it ended by itself
  }
}
