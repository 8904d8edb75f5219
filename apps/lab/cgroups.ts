import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '#core/fault/fault.ts'
import { STANDARD_FOLDER, stateFolder } from './paths.ts'

/**
 * The machine's cgroups and the part of them that is a lab's. Every process of a lab lives in `TOP/NAME`, so the
 * tree is also the truth about what still runs, whatever a state file says.
 */
export interface Hierarchies {
  readonly version: 1 | 2
  /** Version 1: each mounted hierarchy with its controllers (`cpu,cpuacct`); version 2: one without. */
  readonly mounts: readonly { readonly folder: string; readonly controllers: string }[]
  /** The group of all labs of one state folder: the same name elsewhere is another lab. */
  readonly top: string
}

const V1_CONTROLLERS = new Set([
  'blkio',
  'cpu',
  'cpuacct',
  'cpuset',
  'devices',
  'freezer',
  'hugetlb',
  'memory',
  'net_cls',
  'net_prio',
  'perf_event',
  'pids',
  'rdma',
])

/** From the text of `/proc/self/mountinfo`. */
export function findHierarchies(mountinfo: string, state: string): Hierarchies {
  const top = topOf(state)
  const mounts: { folder: string; controllers: string; type: string }[] = []
  for (const line of mountinfo.split('\n')) {
    const [left, right] = line.split(' - ')
    const folder = left?.split(' ')[4]
    const [type, , options] = right?.split(' ') ?? []
    if (folder === undefined || (type !== 'cgroup' && type !== 'cgroup2')) continue
    const controllers = options?.split(',').filter((option) => V1_CONTROLLERS.has(option)) ?? []
    mounts.push({ folder, controllers: controllers.join(), type })
  }
  const first = mounts.filter(({ type, controllers }) => type === 'cgroup' && controllers !== '')
  if (first.length > 0) {
    return { version: 1, top, mounts: first.map(({ folder, controllers }) => ({ folder, controllers })) }
  }
  const second = mounts.find(({ type }) => type === 'cgroup2')
  if (second !== undefined) return { version: 2, top, mounts: [{ folder: second.folder, controllers: '' }] }
  throw new Fault('lab.cgroups', 'no cgroup hierarchy is mounted', { remedy: 'Mount one at /sys/fs/cgroup' })
}

export function machineHierarchies(): Hierarchies {
  return findHierarchies(readFileSync('/proc/self/mountinfo', 'utf8'), stateFolder())
}

function topOf(state: string): string {
  const folder = resolve(state)
  if (folder === STANDARD_FOLDER) return 'pellicle-lab'
  return `pellicle-lab-${createHash('sha256').update(folder).digest('hex').slice(0, 8)}`
}

/** Makes LAB/GROUP in every hierarchy; gives the folders that a process enters by writing to their `cgroup.procs`. */
export function makeGroup(hierarchies: Hierarchies, lab: string, group: string): string[] {
  return hierarchies.mounts.map(({ folder, controllers }) => {
    let at = folder
    for (const part of [hierarchies.top, lab, group]) {
      if (hierarchies.version === 2) delegate(at)
      const below = join(at, part)
      mkdirSync(below, { recursive: true })
      if (controllers.split(',').includes('cpuset')) inheritCpuset(at, below)
      at = below
    }
    return at
  })
}

function inheritCpuset(from: string, to: string): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    if (readFileSync(join(to, file), 'utf8').trim() === '')
      writeFileSync(join(to, file), readFileSync(join(from, file)))
  }
}

/** The files of a cgroup, for tests that have none. */
export interface GroupFiles {
  read(file: string): string
  write(file: string, text: string): void
  mkdir(folder: string): void
}

const REAL_FILES: GroupFiles = {
  read: (file) => readFileSync(file, 'utf8'),
  write: (file, text) => writeFileSync(file, text),
  mkdir: (folder) => mkdirSync(folder, { recursive: true }),
}

/**
 * Version 2: gives all controllers to the groups below. Inside a container the namespace's root is an ordinary group, which
 * may have processes or such groups below it, not both (EBUSY): then its processes go to a leaf first, where they stay.
 */
export function delegate(folder: string, files: GroupFiles = REAL_FILES): void {
  const available = files.read(join(folder, 'cgroup.controllers')).trim().split(' ').filter(Boolean)
  const enabled = new Set(files.read(join(folder, 'cgroup.subtree_control')).trim().split(' '))
  const missing = available.filter((controller) => !enabled.has(controller)).map((controller) => `+${controller}`)
  if (missing.length === 0) return
  // again and again: a process may fork meanwhile
  for (let attempt = 0; ; attempt++) {
    try {
      return files.write(join(folder, 'cgroup.subtree_control'), missing.join(' '))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || attempt === 20) throw error
    }
    files.mkdir(join(folder, 'init'))
    for (const pid of files.read(join(folder, 'cgroup.procs')).split('\n').filter(Boolean)) {
      try {
        files.write(join(folder, 'init', 'cgroup.procs'), pid)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
      }
    }
  }
}

/** Process ids below LAB, or below LAB/GROUP. */
export function processesOf(hierarchies: Hierarchies, lab: string, group = ''): number[] {
  const found = new Set<number>()
  for (const { folder } of hierarchies.mounts) {
    for (const below of foldersBelow(join(folder, hierarchies.top, lab, group))) {
      for (const pid of readLines(join(below, 'cgroup.procs'))) found.add(Number(pid))
    }
  }
  return [...found]
}

/** Ends every process below LAB (or LAB/GROUP) and removes the groups. */
export async function removeGroups(hierarchies: Hierarchies, lab: string, group = ''): Promise<void> {
  for (let attempt = 0; attempt < 400; attempt++) {
    const left = processesOf(hierarchies, lab, group)
    for (const pid of left) kill(pid)
    if (left.length === 0 && removeFolders(hierarchies, lab, group)) return
    await sleep(25)
  }
  const left = processesOf(hierarchies, lab, group)
  throw new Fault('lab.down', `cgroups of the lab ${lab} do not become empty: processes ${left.join(', ') || 'none'}`)
}

function removeFolders(hierarchies: Hierarchies, lab: string, group: string): boolean {
  let gone = true
  for (const { folder } of hierarchies.mounts) {
    const top = join(folder, hierarchies.top, lab, group)
    for (const below of foldersBelow(top).toReversed()) gone = removeFolder(below) && gone
    if (group === '') removeFolder(join(folder, hierarchies.top)) // fails, rightly, while another lab is there
  }
  return gone
}

function removeFolder(folder: string): boolean {
  try {
    rmdirSync(folder)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}

/** The folder and all below it, parents before children; none where it does not exist. */
function foldersBelow(folder: string): string[] {
  try {
    const below = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())
    return [folder, ...below.flatMap((entry) => foldersBelow(join(folder, entry.name)))]
  } catch {
    return []
  }
}

function readLines(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n').filter(Boolean)
  } catch {
    return [] // the group went away meanwhile
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // it ended by itself
  }
}
