import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { Fault } from '#core/fault/fault.ts'
import { type LabLayout, type LabOptions, layOut } from './layout.ts'
import type { LabPaths } from './paths.ts'

/** What a lab remembers of itself on disk. What runs is asked of the cgroups, not of this. */
export interface LabState {
  readonly options: LabOptions
  /** `starting` until everything stands; with the process that makes it, so that a crash can be told from work. */
  readonly phase: 'starting' | 'up'
  readonly creator: ProcessId
  readonly port: number
  readonly programs: string
  /** The store that nodes were seeded from: their unpacked layers are links into it. */
  readonly store: string
  /** The store whose images they have by now. */
  readonly loaded?: string
  /** Process 1 of the underlay and of each node by name, as the machine counts them. */
  readonly underlay: ProcessId | undefined
  readonly nodes: Readonly<Record<string, ProcessId>>
}

/** A process that is not mistaken for a later one with the same number. */
export interface ProcessId {
  readonly pid: number
  /** Start time in clock ticks since boot (proc(5), field 22 of stat). */
  readonly started: number
}

export function processId(pid: number): ProcessId {
  return { pid, started: startTime(pid) ?? -1 }
}

export function isAlive(id: ProcessId | undefined): boolean {
  return id !== undefined && startTime(id.pid) === id.started
}

function startTime(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // the name in parentheses may hold spaces
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? undefined : Number(fields[19])
  } catch {
    return undefined
  }
}

export function readState(paths: LabPaths): LabState | undefined {
  try {
    return JSON.parse(readFileSync(paths.state, 'utf8')) as LabState
  } catch {
    return undefined
  }
}

export function writeState(paths: LabPaths, state: LabState): void {
  writeFileSync(`${paths.state}.new`, `${JSON.stringify(state, undefined, 2)}\n`, { mode: 0o600 })
  renameSync(`${paths.state}.new`, paths.state)
}

/** The state of a lab that must be up. */
export function requireUp(paths: LabPaths, name: string): { readonly state: LabState; readonly layout: LabLayout } {
  const state = readState(paths)
  if (state?.phase !== 'up' || !isAlive(state.underlay)) {
    throw new Fault('lab.absent', `no lab named ${name} is up`, { field: '--name', remedy: 'Run `pellicle lab up`' })
  }
  return { state, layout: layOut(state.options) }
}
