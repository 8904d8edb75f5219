import { execFileSync } from 'node:child_process'
import type { EngineKeys } from '#core/engine/association.ts'
import { linuxAlgorithm } from '#core/ipsec/userspace.ts'
import {
  type Direction,
  FAMILIES,
  type Family,
  INNER,
  type Numbers,
  OUTER,
  type Outside,
  outerOf,
  PORT,
  SPI,
} from './esp-shape.ts'

// XFRM told by iproute2, which knows nothing of our codecs, in its own words.

/** What `ip xfrm` is told: ESN, a window of 1,024, both families inside. `direction` as our end sees it. */
export function stateText(
  direction: Direction,
  { encapsulation, family }: Outside,
  keys: EngineKeys,
  last: bigint,
): string {
  const { source, destination } = outerOf(family, direction)
  const hex = (bytes: Uint8Array) => `0x${Buffer.from(bytes).toString('hex')}`
  const names = linuxAlgorithm(keys.algorithm).split(/,(?=cbc)/)
  const algorithms =
    names.length === 1
      ? `aead ${names[0]} ${hex(keys.encryption)} ${keys.icv * 8}`
      : `auth-trunc ${names[0]} ${hex(keys.authentication)} ${keys.icv * 8} enc ${names[1]} ${hex(keys.encryption)}`
  const [high, low] = [last >> 32n, last & 0xffff_ffffn]
  const numbers =
    direction === 'out' ? `replay-seq ${low} replay-seq-hi ${high}` : `replay-oseq ${low} replay-oseq-hi ${high}`
  const encap = encapsulation === 'udp' ? ` encap espinudp ${PORT} ${PORT} ${family === 4 ? '0.0.0.0' : '::'}` : ''
  return `xfrm state add src ${source} dst ${destination} proto esp spi ${SPI[direction]} reqid 1 mode tunnel replay-window 1024 ${numbers} flag esn af-unspec${encap} ${algorithms}`
}

/** What goes to our end's inner addresses needs the tunnel, and so does what comes from them. */
export function policies(outer: Family): string[] {
  const [ours, theirs] = OUTER[outer]
  return FAMILIES.flatMap((family) => {
    const [inside, beyond] = INNER[family]
    const length = family === 4 ? 32 : 128
    const template = (source: string, destination: string) =>
      `tmpl src ${source} dst ${destination} proto esp reqid 1 mode tunnel`
    return [
      `xfrm policy add src ${beyond}/${length} dst ${inside}/${length} dir out ${template(theirs, ours)}`,
      `xfrm policy add src ${inside}/${length} dst ${beyond}/${length} dir in ${template(ours, theirs)}`,
    ]
  })
}

/** By standard input, since lists of processes would show keys. */
export function batch(namespace: string, lines: readonly string[]): void {
  execFileSync('ip', ['-n', namespace, '-batch', '-'], {
    input: `${lines.join('\n')}\n`,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
}

/** By `ip -s xfrm state list`: the number last sent, or highest received. */
export function numbersOf(list: string): Numbers {
  const found = new Map<number, Numbers>()
  for (const text of list.split(/^(?=src )/m)) {
    const spi = /spi (0x[0-9a-f]+)/.exec(text)?.[1]
    const [, ...words] = /seq-hi (\S+), seq (\S+), oseq-hi (\S+), oseq (\S+)/.exec(text) ?? []
    const [high = 0n, low = 0n, sentHigh = 0n, sentLow = 0n] = words.map(BigInt)
    found.set(Number(spi), { out: (high << 32n) | low, in: (sentHigh << 32n) | sentLow })
  }
  const [out, back] = [found.get(SPI.out)?.out, found.get(SPI.in)?.in]
  if (out === undefined || back === undefined) throw new Error('the kernel lacks a state')
  return { out, in: back }
}
