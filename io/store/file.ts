import { randomBytes } from 'node:crypto'
import { mkdir, open, readFile, rename, stat, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { Fault } from '#core/fault/fault.ts'

/** Small files that must be whole or not there: keys, state, the CNI configuration. */

/** Larger files are not ours, whatever their name says. */
const MAX_BYTES = 4 * 1024 * 1024

/** The file's bytes; undefined when there is no such file. Rejects with Fault `store.read`. */
export async function readSmallFile(path: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    const { size } = await stat(path)
    if (size > MAX_BYTES) throw new Error(`${size} bytes, more than the ${MAX_BYTES} that such a file may have`)
    return new Uint8Array(await readFile(path))
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined
    throw new Fault('store.read', `cannot read ${path}`, { field: path, cause: error })
  }
}

/**
 * Replaces the whole file or leaves the old one: written beside it, flushed, renamed, folder flushed. The mode is set
 * whatever the umask is. A full disk rejects with Fault `store.full`, a
 * read-only one with `store.read-only`, anything else with `store.write`; the old content stays.
 */
export async function writeFileAtomic(path: string, data: Uint8Array | string, mode = 0o600): Promise<void> {
  const folder = dirname(path)
  const draft = join(folder, `.${basename(path)}.${randomBytes(6).toString('hex')}`)
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const file = await open(draft, 'wx', mode)
    try {
      await file.chmod(mode)
      await file.writeFile(data)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(draft, path)
    await syncFolder(folder)
  } catch (error) {
    await unlink(draft).catch(() => undefined)
    throw writeFault(path, error)
  }
}

/** Done when the file is not there (any more). */
export async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw writeFault(path, error)
  }
}

/** `ENOENT` and the like, when `error` carries one. */
function errorCode(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
  return typeof code === 'string' ? code : undefined
}

function writeFault(path: string, error: unknown): Fault {
  const code = errorCode(error)
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new Fault('store.full', `no space left to write ${path}`, {
      field: path,
      remedy: `Free some space in ${dirname(path)}; the content from before is still there, and this is tried again.`,
      cause: error,
    })
  }
  if (code === 'EROFS') {
    return new Fault('store.read-only', `cannot write ${path}: its file system is read-only`, {
      field: path,
      remedy: `Mount the file system of ${dirname(path)} writable; the content from before is still there, and this is tried again.`,
      cause: error,
    })
  }
  return new Fault('store.write', `cannot write ${path}`, { field: path, cause: error })
}

/** After a power cut the rename itself must not be lost. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } catch (error) {
    // some file systems cannot flush a folder; the file itself is flushed
    if (errorCode(error) !== 'EINVAL') throw error
  } finally {
    await handle.close()
  }
}
