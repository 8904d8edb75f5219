import { join } from 'node:path'
import { Fault } from '#core/fault/fault.ts'
import { formatConfiguration } from '#core/uapi/format.ts'
import { parseChange } from '#core/uapi/parse.ts'
import type { DeviceChange } from '#core/wireguard/change.ts'
import type { Device } from '#core/wireguard/device.ts'
import type { PublicKey } from '#core/wireguard/key.ts'
import { formatLabels, type Labels, parseLabels } from '#core/wireguard/labels.ts'
import { readSmallFile, writeFileAtomic } from '#io/store/file.ts'

/** The two files of a device that outlive the keeper: `config` and `state` (docs/protocol/supervisor.md), 0600. */
export class Storage {
  readonly #config: string
  readonly #state: string
  #savedConfig = ''
  #savedState = ''

  constructor(folder: string) {
    this.#config = join(folder, 'config')
    this.#state = join(folder, 'state')
  }

  /** Rejects with Fault `keeper.config` for a file that is damaged: guessing could connect the wrong peers. */
  async load(): Promise<{ change: DeviceChange | undefined; labels: Map<PublicKey, Labels> }> {
    const [config, state] = await Promise.all([readSmallFile(this.#config), readSmallFile(this.#state)])
    const labels = parseLabels(new TextDecoder().decode(state ?? new Uint8Array()))
    if (config === undefined) return { change: undefined, labels }
    const text = new TextDecoder().decode(config)
    config.fill(0)
    try {
      return { change: parseChange(text.split('\n').filter((line) => line !== '')), labels }
    } catch (error) {
      throw new Fault('keeper.config', `${this.#config} is damaged`, {
        field: this.#config,
        remedy: 'Remove it and configure the device again, by the agent or by wg setconf',
        cause: error,
      })
    }
  }

  /** Writes what has changed. Rejects with Fault `store.*`. */
  async save(device: Device): Promise<void> {
    const config = formatConfiguration(device)
    const state = formatLabels(
      [...device.peers].map(([key, peer]) => [key, { received: peer.lastReceivedLabel, sent: peer.lastSentLabel }]),
    )
    if (config !== this.#savedConfig) {
      await writeFileAtomic(this.#config, config)
      this.#savedConfig = config
    }
    if (state !== this.#savedState) {
      await writeFileAtomic(this.#state, state)
      this.#savedState = state
    }
  }
}
