import type { z } from 'zod'
import { describeFault, Fault } from '#core/fault/fault.ts'
import { readSmallFile, writeFileAtomic } from './file.ts'

/** One value in one JSON file, checked against its schema on the way in. */
export class JsonFile<T> {
  readonly path: string
  readonly #schema: z.ZodType<T>

  constructor(path: string, schema: z.ZodType<T>) {
    this.path = path
    this.#schema = schema
  }

  /** Undefined when there is no file. A file that is not what it should be is an error, never an empty start. */
  async read(): Promise<T | undefined> {
    const bytes = await readSmallFile(this.path)
    if (bytes === undefined) return undefined
    try {
      return this.#schema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)))
    } catch (error) {
      throw new Fault('store.damaged', `${this.path} is not what was written there (${describeFault(error)})`, {
        field: this.path,
        remedy: `Move ${this.path} away if it cannot be repaired; what it held is then read back from the node.`,
      })
    }
  }

  async write(value: T): Promise<void> {
    await writeFileAtomic(this.path, `${JSON.stringify(value, undefined, 1)}\n`)
  }
}
