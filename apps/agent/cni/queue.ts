import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describeFault } from '#core/fault/fault.ts'
import { readSmallFile, removeFile } from '#io/store/file.ts'
import { type FolderWatch, watchFolder } from '#io/store/watch-folder.ts'
import type { Log } from '#io/telemetry/log.ts'
import type { CniAnswer } from './error.ts'

/**
 * DELs that came while no agent answered: the executable leaves each as a file (the same JSON line that the socket
 * takes) and succeeds. They are worked off at start and whenever another one appears.
 */
export class DeleteQueue {
  readonly #folder: string
  readonly #answer: (line: string) => Promise<CniAnswer>
  readonly #log: Log
  #watcher: FolderWatch | undefined
  #work: Promise<void> = Promise.resolve()

  constructor(folder: string, answer: (line: string) => Promise<CniAnswer>, log: Log) {
    this.#folder = folder
    this.#answer = answer
    this.#log = log
  }

  /** Resolves when what lay there at the time is done. */
  async start(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    this.#watcher = watchFolder(
      this.#folder,
      () => void this.drain(),
      (error) => this.#log.warn(`the delete queue is looked at every second, not watched: ${error.message}`),
    )
    await this.drain()
  }

  close(): void {
    this.#watcher?.close()
  }

  /** Never rejects: what cannot be done stays in the queue. */
  drain(): Promise<void> {
    this.#work = this.#work
      .then(() => this.#drain())
      .catch((error: unknown) => {
        this.#log.warn(`the delete queue cannot be read: ${describeFault(error)}`, { folder: this.#folder })
      })
    return this.#work
  }

  async #drain(): Promise<void> {
    // half-written files have another ending until they are renamed
    const names = (await readdir(this.#folder)).filter((name) => name.endsWith('.json')).sort()
    for (const name of names) {
      const path = join(this.#folder, name)
      const content = await readSmallFile(path)
      if (content === undefined) continue
      const { exitCode, output } = await this.#answer(new TextDecoder().decode(content).trim())
      if (exitCode !== 0 && !neverWorks(output)) continue
      if (exitCode !== 0)
        this.#log.warn('a queued DEL makes no sense and is dropped', { file: name, answer: JSON.stringify(output) })
      await removeFile(path)
    }
  }
}

/** CNI codes of requests that no later attempt can help: version, environment, not decodable, configuration. */
function neverWorks(output: CniAnswer['output']): boolean {
  return [1, 4, 6, 7].includes(Number(output?.['code']))
}
