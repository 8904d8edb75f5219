import { FAMILY_BITS, familyOf, type Ip } from './address.ts'
import { type Cidr, cidrFamily, cidrOf, lengthOf } from './cidr.ts'

/**
 * Values by prefix, looked up by longest match.
 *
 * One map per prefix length in use: a control-plane table has few lengths, so a look-up is a handful of map reads.
 */
export class PrefixTable<T> {
  readonly #byLength = { 4: new Map<number, Map<Cidr, T>>(), 6: new Map<number, Map<Cidr, T>>() }

  set(prefix: Cidr, value: T): void {
    const tables = this.#byLength[cidrFamily(prefix)]
    const length = lengthOf(prefix)
    let table = tables.get(length)
    if (table === undefined) {
      table = new Map()
      tables.set(length, table)
    }
    table.set(prefix, value)
  }

  get(prefix: Cidr): T | undefined {
    return this.#byLength[cidrFamily(prefix)].get(lengthOf(prefix))?.get(prefix)
  }

  delete(prefix: Cidr): boolean {
    const tables = this.#byLength[cidrFamily(prefix)]
    const table = tables.get(lengthOf(prefix))
    const had = table?.delete(prefix) ?? false
    if (table?.size === 0) tables.delete(lengthOf(prefix))
    return had
  }

  /** The value of the longest prefix that holds `ip`. */
  lookup(ip: Ip): T | undefined {
    const family = familyOf(ip)
    const tables = this.#byLength[family]
    for (let length = FAMILY_BITS[family]; length >= 0; length--) {
      const table = tables.get(length)
      const prefix = table && cidrOf(ip, length)
      if (table !== undefined && prefix !== undefined && table.has(prefix)) return table.get(prefix)
    }
    return undefined
  }

  *entries(): Generator<[Cidr, T]> {
    for (const tables of Object.values(this.#byLength)) for (const table of tables.values()) yield* table.entries()
  }
}
