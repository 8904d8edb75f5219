import { type AgentConfig, parseConfig } from '#core/api/config.ts'
import { poolChangeFaults } from '#core/api/pool.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import { readConfigDir } from '#io/kube/config-dir.ts'
import { type FolderWatch, watchFolder } from '#io/store/watch-folder.ts'
import type { Log } from '#io/telemetry/log.ts'

/** Between two looks when nothing was told: kubelet's own period is a minute. */
const PERIOD_MS = 30_000

/**
 * The configuration in a mounted ConfigMap, and its changes (kubelet swaps a symbolic link). A change that is wrong is
 * told and not taken: what was right before stays in force.
 */
export class ConfigWatch {
  readonly #folder: string
  readonly #log: Log
  readonly #onChange: () => void
  #config: AgentConfig | undefined
  #text = ''
  #watcher: FolderWatch | undefined
  #timer: NodeJS.Timeout | undefined
  problem: string | undefined

  constructor(folder: string, log: Log, onChange: () => void) {
    this.#folder = folder
    this.#log = log
    this.#onChange = onChange
  }

  get config(): AgentConfig | undefined {
    return this.#config
  }

  /** Rejects with a Fault that names every wrong key when the first reading is not right. */
  async start(): Promise<AgentConfig> {
    const config = await this.#read()
    this.#watcher = watchFolder(
      this.#folder,
      () => void this.#look(),
      (error) => this.#log.warn(`the configuration is looked at every second, not watched: ${error.message}`),
    )
    this.#timer = setInterval(() => void this.#look(), PERIOD_MS).unref()
    return config
  }

  close(): void {
    this.#watcher?.close()
    clearInterval(this.#timer)
  }

  async #look(): Promise<void> {
    try {
      const before = this.#config
      const now = await this.#read()
      this.problem = undefined
      if (now === before) return
      this.#log.info('the configuration has changed')
      this.#onChange()
    } catch (error) {
      const problem = describeFault(error)
      if (problem !== this.problem) this.#log.error(`the changed configuration is not taken: ${problem}`)
      this.problem = problem
    }
  }

  async #read(): Promise<AgentConfig> {
    const data = await readConfigDir(this.#folder)
    const text = JSON.stringify(Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1)))
    if (this.#config !== undefined && text === this.#text) return this.#config
    const parsed = parseConfig(data)
    if (!parsed.ok) throw combine(parsed.error)
    const changed = this.#config === undefined ? [] : poolChangeFaults(this.#config, parsed.value.config)
    if (changed.length > 0) throw combine(changed)
    for (const { key, nearest } of parsed.value.unknown) {
      this.#log.debug('a key of the configuration means nothing here', { key, nearest })
    }
    this.#text = text
    this.#config = parsed.value.config
    return this.#config
  }
}

function combine(faults: readonly Fault[]): Fault {
  const [first] = faults
  const sentences = faults.map((fault) => describeFault(fault)).join('; ')
  return new Fault(first?.code ?? 'config.invalid', sentences, first?.field === undefined ? {} : { field: first.field })
}
