import type { Cidr } from '#core/ip/cidr.ts'

/** Pieces of nftables text that both of our tables are written with. */

/** nft's word for an address family inside an `inet` table, and its set type. */
export const NFT = {
  4: { ip: 'ip', type: 'ipv4_addr' },
  6: { ip: 'ip6', type: 'ipv6_addr' },
} as const

type NftAddress = `${'' | 'ct original '}${'ip' | 'ip6'} ${'saddr' | 'daddr'}`

/** A set of single addresses; without elements it matches nothing, which is what every rule here wants of it. */
export function nftSet(name: string, type: string, elements: readonly string[]): string {
  const list = elements.length === 0 ? '' : ` elements = { ${elements.join(', ')} };`
  return `set ${name} { type ${type};${list} }`
}

/**
 * Prefixes stand in the rules, one rule for each, and not in a set with `flags interval`: while a transaction is being
 * committed, Linux' tree of intervals finds nothing for a moment, of the old set nor of the new one (docs/adr/0002).
 */
export function within(address: NftAddress, cidrs: readonly Cidr[]): string[] {
  return cidrs.map((cidr) => `${address} ${cidr}`)
}

/** In none of them, for one rule; of no prefix at all everything is outside. */
export function outside(address: NftAddress, cidrs: readonly Cidr[]): string {
  if (cidrs.length === 0) return `meta nfproto ${address.startsWith('ip6') ? 'ipv6' : 'ipv4'}`
  return cidrs.map((cidr) => `${address} != ${cidr}`).join(' ')
}

/** A chain from its rules; undefined ones are left out. */
export function nftChain(name: string, head: string | undefined, rules: readonly (string | undefined)[]): string {
  const lines = [head, ...rules].filter((line) => line !== undefined)
  return `chain ${name} {\n${lines.map((line) => `  ${line}\n`).join('')}}`
}

export function nftBody(parts: readonly string[]): string {
  return `${parts.join('\n')}\n`
}

/** Each of these is a named counter, so that what is dropped has a name in `nft list counters` and in the metrics. */
export function drop(counter: string): string {
  return `counter name ${counter} drop`
}

export function nftCounters(parts: readonly string[]): string[] {
  const names = new Set(parts.flatMap((part) => [...part.matchAll(/counter name (\w+)/g)].map((match) => match[1])))
  return [...names].map((name) => `counter ${name} { }`)
}
