import { DEFAULT_LAB, type IpFamily, MAX_NODES } from '#apps/lab/layout.ts'
import { Fault } from '#core/fault/fault.ts'
import { text } from '../../flags.ts'

export interface LabFlags {
  readonly name: string
}

export const nameFlag = {
  kind: 'parsed',
  parse: parseName,
  brief: 'Name of the lab; its nodes are called NAME-control-plane, NAME-worker, …',
  default: DEFAULT_LAB,
} as const

/** A lab's name becomes host names, folder and cgroup names. */
function parseName(input: string): string {
  if (/^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$/.test(input)) return input
  throw new Fault('flag.invalid', `"${input}" is no lab name: small letters, digits and "-", at most 40`, {
    field: '--name',
  })
}

export function parseNodes(input: string): number {
  const count = Number(input)
  if (Number.isInteger(count) && count >= 1 && count <= MAX_NODES) return count
  throw new Fault('flag.invalid', `"${input}" is no number of nodes from 1 to ${MAX_NODES}`, { field: '--nodes' })
}

export function parseFamily(input: string): IpFamily {
  if (input === 'ipv4' || input === 'ipv6' || input === 'dual') return input
  throw new Fault('flag.invalid', `"${input}" is none of ipv4, ipv6, dual`, { field: '--ip-family' })
}

export { text }
