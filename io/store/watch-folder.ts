import { statSync, watch } from 'node:fs'

export interface FolderWatch {
  close(): void
}

/** Between two looks where the kernel does not tell, in milliseconds. */
const POLL_MS = 1000

/**
 * Calls `onChange` when something in a folder is made, renamed or removed. Where the kernel has no inotify instance left
 * (128 for all of a machine's root processes by default, and kubelet's and containerd's are among them) the folder's
 * time of change is looked at every second, and `onPolling` is told why, once.
 */
export function watchFolder(folder: string, onChange: () => void, onPolling: (error: Error) => void): FolderWatch {
  let close = (): void => undefined
  const poll = (error: Error): void => {
    close()
    close = pollFolder(folder, onChange)
    onPolling(error)
  }
  try {
    const watcher = watch(folder, onChange)
    close = () => watcher.close()
    watcher.on('error', poll)
  } catch (error) {
    poll(error instanceof Error ? error : new Error(String(error)))
  }
  return { close: () => close() }
}

function pollFolder(folder: string, onChange: () => void): () => void {
  let before = changed(folder)
  const look = () => {
    const now = changed(folder)
    if (now !== before) onChange()
    before = now
  }
  const timer = setInterval(look, POLL_MS)
  return () => clearInterval(timer)
}

/** A folder that is gone for a while is a change as well. */
function changed(folder: string): bigint | undefined {
  return statSync(folder, { bigint: true, throwIfNoEntry: false })?.mtimeNs
}
