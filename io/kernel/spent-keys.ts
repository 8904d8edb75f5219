import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { Fault } from '#core/fault/fault.ts'

/**
 * By which derived keys (their fingerprints) this node has sent under one boot id, and how far, so that no number is ever used
 * twice with a key: a state that is made again would begin at 0. A file of lines in memory-backed `/run`, which lives as long as
 * the kernel's states do; it is added to *before* a state is made. Holds no key.
 *
 *     boot 8-4-4-4-12
 *     FINGERPRINT used          a state was made
 *     FINGERPRINT 1048600       it was removed in good order: nothing was sent beyond
 */
export class SpentKeys {
  readonly #path: string
  #bootId: string | undefined
  #keys = new Map<string, bigint | 'used'>()
  #read = false

  constructor(path: string) {
    this.#path = path
  }

  /** Undefined: nothing is known, so everything may have been used. */
  get bootId(): string | undefined {
    this.#load()
    return this.#bootId
  }

  /** `used`: nobody knows how far. Undefined: never. */
  get(fingerprint: string): bigint | 'used' | undefined {
    this.#load()
    return this.#keys.get(fingerprint)
  }

  /** All that was there before counts no more: keys are derived from the boot id. */
  begin(bootId: string): void {
    this.#guarded(() => {
      mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 })
      const draft = `${this.#path}.new`
      writeFileSync(draft, `boot ${bootId}\n`, { mode: 0o600 })
      renameSync(draft, this.#path)
    })
    this.#bootId = bootId
    this.#keys = new Map()
    this.#read = true
  }

  /** @throws Fault `store.write`: then no state may be made */
  note(entries: Iterable<readonly [fingerprint: string, last: bigint | 'used']>): void {
    this.#load()
    const news = [...entries].filter(([fingerprint, last]) => this.#keys.get(fingerprint) !== last)
    if (news.length === 0) return
    const lines = news.map(([fingerprint, last]) => `${fingerprint} ${last}\n`)
    this.#guarded(() => appendFileSync(this.#path, lines.join('')))
    for (const [fingerprint, last] of news) this.#keys.set(fingerprint, last)
  }

  forget(): void {
    this.#guarded(() => rmSync(this.#path, { force: true }))
    this.#bootId = undefined
    this.#keys = new Map()
    this.#read = true
  }

  #load(): void {
    if (this.#read) return
    this.#read = true
    let text: string
    try {
      text = readFileSync(this.#path, 'utf8')
    } catch {
      return
    }
    // torn: what is missing cannot be known
    if (!text.endsWith('\n')) return
    const [first = '', ...lines] = text.split('\n')
    const bootId = /^boot ([0-9a-f-]{36})$/.exec(first)?.[1]
    const keys = new Map<string, bigint | 'used'>()
    for (const line of lines.filter((one) => one !== '')) {
      const [, fingerprint, last] = /^([0-9a-f]{16}) (used|\d+)$/.exec(line) ?? []
      // not ours
      if (fingerprint === undefined || last === undefined) return
      keys.set(fingerprint, last === 'used' ? last : BigInt(last))
    }
    this.#bootId = bootId
    this.#keys = keys
  }

  #guarded(run: () => void): void {
    try {
      run()
    } catch (cause) {
      throw new Fault('store.write', `cannot write ${this.#path}`, {
        field: this.#path,
        remedy: 'Without it a key might be used twice, so no state is made: is /run writable, and is there room?',
        cause,
      })
    }
  }
}
