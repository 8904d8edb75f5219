import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { machineHierarchies, processesOf, removeGroups } from './cgroups.ts'
import { lowerInotify } from './inotify.ts'
import { labPaths, labsFolder } from './paths.ts'
import { run } from './process/run.ts'

/** Ends and removes everything of a lab, whatever state it is in. False when there was nothing. */
export async function removeLab(folder: string, name: string): Promise<boolean> {
  const hierarchies = machineHierarchies()
  const paths = labPaths(folder, name)
  const there = existsSync(paths.folder) || processesOf(hierarchies, name).length > 0
  await removeGroups(hierarchies, name)
  // the nodes' mounts went with their namespaces; only a crash between two steps could leave one here
  const mounts = mountsBelow(readFileSync('/proc/self/mountinfo', 'utf8'), paths.folder)
  for (const mount of mounts.toReversed()) await run('umount', ['-l', mount])
  rmSync(paths.folder, { recursive: true, force: true, maxRetries: 5 })
  if (labNames(folder).length === 0) lowerInotify(folder)
  return there
}

/** Names of the labs that have a folder. */
export function labNames(folder: string): string[] {
  try {
    return readdirSync(labsFolder(folder)).toSorted()
  } catch {
    return []
  }
}

export function mountsBelow(mountinfo: string, folder: string): string[] {
  return mountinfo
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path === folder || path.startsWith(`${folder}/`))
}
