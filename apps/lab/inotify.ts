import { readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const LIMIT = '/proc/sys/fs/inotify/max_user_instances'
const NOTE = 'inotify.json'

/** Kubelet 7, containerd, kube-proxy, the agent 3, and what pods take. */
const PER_NODE = 16
const FOR_CLUSTER = 16

/** What the limit was before the first lab of a folder raised it, and to what the last one did. */
interface Note {
  readonly before: number
  readonly raised: number
}

/**
 * inotify instances are counted for root of the whole machine, not for each node, and Linux allows 128 by default: with
 * a lab or two beside other containers a kubelet cannot start any more ("too many open files"). Raises the limit where
 * it is too low and gives a sentence that says so. `folder`: the labs', which keeps what it was (see `lowerInotify`).
 */
export function makeRoomForInotify(nodes: number, folder: string, file = LIMIT): string | undefined {
  const limit = Number(readFileSync(file, 'utf8'))
  const needed = instancesInUse() + PER_NODE * nodes + FOR_CLUSTER
  if (needed <= limit) return undefined
  const raised = 2 ** Math.ceil(Math.log2(needed * 2))
  const before = readNote(folder)
  try {
    writeFileSync(file, String(raised))
  } catch (error) {
    return `fs.inotify.max_user_instances is ${limit}, some ${needed} will be needed, and it cannot be raised here (${(error as Error).message}): a kubelet may fail to start`
  }
  const note: Note = { before: before?.raised === limit ? before.before : limit, raised }
  writeFileSync(join(folder, NOTE), `${JSON.stringify(note)}\n`)
  return `fs.inotify.max_user_instances raised from ${limit} to ${raised} (the last \`lab down\` puts it back)`
}

/** For when no lab of the folder is left: puts the limit back, unless somebody else has set it meanwhile. */
export function lowerInotify(folder: string, file = LIMIT): void {
  const note = readNote(folder)
  if (note === undefined) return
  if (Number(readFileSync(file, 'utf8')) === note.raised) writeFileSync(file, String(note.before))
  rmSync(join(folder, NOTE))
}

function readNote(folder: string): Note | undefined {
  return attempt(() => JSON.parse(readFileSync(join(folder, NOTE), 'utf8')) as Note)
}

function instancesInUse(): number {
  let count = 0
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    count += links(`/proc/${pid}/fd`).filter((target) => target === 'anon_inode:inotify').length
  }
  return count
}

/** Where descriptors lead; a process that ends meanwhile has none. */
function links(folder: string): string[] {
  const names = attempt(() => readdirSync(folder)) ?? []
  return names.flatMap((name) => attempt(() => readlinkSync(`${folder}/${name}`)) ?? [])
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
