import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'

const LIMIT = '/proc/sys/fs/inotify/max_user_instances'

/** Kubelet 7, containerd, kube-proxy, the agent 3, and what pods take. */
const PER_NODE = 16
const FOR_CLUSTER = 16

/**
 * inotify instances are counted for root of the whole machine, not for each node, and Linux allows 128 by default: with
 * a lab or two beside other containers a kubelet cannot start any more ("too many open files"). Raises the limit where
 * it is too low and gives a sentence that says so; it is not lowered again, since others may have come to need it.
 */
export function makeRoomForInotify(nodes: number): string | undefined {
  const limit = Number(readFileSync(LIMIT, 'utf8'))
  const needed = instancesInUse() + PER_NODE * nodes + FOR_CLUSTER
  if (needed <= limit) return undefined
  const raised = 2 ** Math.ceil(Math.log2(needed * 2))
  try {
    writeFileSync(LIMIT, String(raised))
    return `fs.inotify.max_user_instances raised from ${limit} to ${raised}`
  } catch (error) {
    return `fs.inotify.max_user_instances is ${limit}, some ${needed} will be needed, and it cannot be raised here (${(error as Error).message}): a kubelet may fail to start`
  }
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
