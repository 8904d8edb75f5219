import { randomBytes } from 'node:crypto'
import type { EngineKeys } from '#core/engine/association.ts'
import { type Ip, requireIp } from '#core/ip/address.ts'

// What both ends of a tunnel of ESP are told (esp-ends.ts): addresses, SPIs, algorithms, keys. `out` and `in` as our end sees it.

/** Of ESP in UDP, at either end. */
export const PORT = 4500
/** Ours to theirs, and back: two numbers, so that no end takes one for the other. */
export const SPI = { out: 0x3003, in: 0x4004 } as const

export const OUTER = { 4: ['192.0.2.1', '192.0.2.2'], 6: ['2001:db8::1', '2001:db8::2'] } as const
export const INNER = { 4: ['10.78.0.1', '10.78.0.2'], 6: ['fd78::1', 'fd78::2'] } as const
export const FAMILIES = [4, 6] as const
export type Family = (typeof FAMILIES)[number]
/** How ESP goes between the two. */
export interface Outside {
  readonly encapsulation: 'none' | 'udp'
  readonly family: Family
}

/** An algorithm with the length of its keys and ICV, in bytes; of an AEAD with its 4 bytes of salt. */
export interface Suite {
  readonly algorithm: EngineKeys['algorithm']
  readonly encryption: number
  readonly icv: number
  readonly authentication: number
}

export type Direction = 'out' | 'in'

/** Of both directions. */
export interface PairOfKeys {
  readonly out: EngineKeys
  readonly in: EngineKeys
}

/** The last number that each direction used. */
export interface Numbers {
  readonly out: bigint
  readonly in: bigint
}

export function randomKeys({ algorithm, encryption, icv, authentication }: Suite): EngineKeys {
  return { algorithm, icv, encryption: randomBytes(encryption), authentication: randomBytes(authentication) }
}

/** Addresses outside, in that direction. */
export function outerOf(family: Family, direction: Direction): { readonly source: Ip; readonly destination: Ip } {
  const [ours, theirs] = [requireIp(OUTER[family][0], 'test'), requireIp(OUTER[family][1], 'test')]
  return direction === 'out' ? { source: ours, destination: theirs } : { source: theirs, destination: ours }
}

/** The engine's client overwrites what it has sent. */
export function copyOf(keys: EngineKeys): EngineKeys {
  return { ...keys, encryption: new Uint8Array(keys.encryption), authentication: new Uint8Array(keys.authentication) }
}
