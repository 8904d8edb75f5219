/** Pieces of nftables text that both of our tables are written with. */

/** nft's word for an address family inside an `inet` table, and its set type. */
export const NFT = {
  4: { ip: 'ip', type: 'ipv4_addr' },
  6: { ip: 'ip6', type: 'ipv6_addr' },
} as const

/** A set; without elements it matches nothing, which is what every rule here wants of it. */
export function nftSet(name: string, type: string, interval: boolean, elements: readonly string[]): string {
  const flags = interval ? ' flags interval;' : ''
  const list = elements.length === 0 ? '' : ` elements = { ${elements.join(', ')} };`
  return `set ${name} { type ${type};${flags}${list} }`
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
