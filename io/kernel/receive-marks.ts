import type { NftTablePlan } from '#core/host/host-plan.ts'
import { FAMILIES, familyOf, type Ip } from '#core/ip/address.ts'
import { NFT } from '#core/plan/nft-text.ts'
import { NftTables } from './nft-tables.ts'

/**
 * Marks what arrives encrypted by who it comes from: the kernel finds a state by destination, SPI and mark, and all peers send by
 * the same SPI. Before routing and before anything is decrypted; what has no entry finds no state. Not one of the plan's
 * tables (their names begin with `pellicle`), since it changes with the states and not with the routes.
 */
export class ReceiveMarks {
  readonly #tables = new NftTables()
  readonly #name: string

  /** `device`: what the table is called after. */
  constructor(device: string) {
    this.#name = `xfrm_${device}`
  }

  /** @throws Fault `nftables.*`; what was there before keeps working */
  set(marks: ReadonlyMap<Ip, number>, udpPort: number): void {
    const table = tableOf(this.#name, marks, udpPort)
    if (!this.#tables.has(table)) this.#tables.set(table)
  }

  remove(): void {
    this.#tables.delete({ family: 'inet', name: this.#name })
  }

  close(): void {
    this.#tables.close()
  }
}

function tableOf(name: string, marks: ReadonlyMap<Ip, number>, udpPort: number): NftTablePlan {
  const lines: string[] = []
  for (const family of FAMILIES) {
    const entries = [...marks].filter(([ip]) => familyOf(ip) === family).sort(([a], [b]) => (a < b ? -1 : 1))
    const elements = entries.map(([ip, mark]) => `${ip} : 0x${mark.toString(16).padStart(8, '0')}`)
    lines.push(`map peers${family} {`, `type ${NFT[family].type} : mark`)
    if (elements.length > 0) lines.push(`elements = { ${elements.join(', ')} }`)
    lines.push('}')
  }
  lines.push('chain arriving {', 'type filter hook prerouting priority mangle; policy accept;')
  for (const family of FAMILIES) {
    const { ip } = NFT[family]
    for (const carrier of ['meta l4proto esp', `udp dport ${udpPort}`]) {
      lines.push(`${carrier} fib daddr type local meta mark set ${ip} saddr map @peers${family}`)
    }
  }
  lines.push('}')
  return { family: 'inet', name, body: `${lines.join('\n')}\n` }
}
