import type { ChildProcess } from 'node:child_process'
import { wireguardGo } from '#test/interop/wireguard-go.ts'
import { boringtun, debianWireguardGo, type Found, gotatun } from '#test/kit/peers.ts'
import type { Side, TunnelLab } from '#test/kit/tunnel-lab.ts'
import type { Missing, Processes } from './contestant.ts'

/** A program that makes a WireGuard device, and how it is started. */
export interface WireguardProgram {
  readonly name: string
  /** Makes names of namespaces unique. */
  readonly letter: string
  /** Also with `--quick`. */
  readonly quick: boolean
  readonly ours: boolean
  find(): Promise<Start | Missing>
}

/** Done when the device is there and up, with its key, and has no peers. */
export type Start = (lab: TunnelLab, side: Side) => Promise<Running>

export interface Running {
  /** The one whose end is the end of the device. */
  readonly first: ChildProcess
  /** By what they are. They may be others next time. */
  processes(): Promise<Processes>
}

// they leave root by themselves unless told not to, which our namespaces do not survive
const STAY_ROOT = { WG_SUDO: 'true' }

export const PEER_PROGRAMS: readonly WireguardProgram[] = [
  peer('wireguard-go', 'g', wireguardGo, { quick: true }),
  peer("wireguard-go, Debian's", 'd', debianWireguardGo),
  peer('boringtun', 'b', boringtun, { env: STAY_ROOT }),
  peer('gotatun', 't', gotatun, { env: { ...STAY_ROOT, WG_LOG_LEVEL: 'error' } }),
]

export const OUR_PROGRAM: WireguardProgram = ourProgram('pellicle', 'o')

/** `engine`: another build of it, to see what a change is worth. */
export function ourProgram(name: string, letter: string, engine?: string): WireguardProgram {
  return {
    name,
    letter,
    quick: true,
    ours: true,
    find: async () => async (lab, side) => {
      const first = await lab.startOurs(side, engine)
      const processes = async () => {
        const status = await lab.status(side)
        return { engine: status.engine.pid, keeper: status.keeper.pid, supervisor: first.pid ?? 0 }
      }
      return { first, processes }
    },
  }
}

function peer(
  name: string,
  letter: string,
  find: () => Promise<Found>,
  { quick = false, env = {} }: { quick?: boolean; env?: Record<string, string> } = {},
): WireguardProgram {
  return {
    name,
    letter,
    quick,
    ours: false,
    find: async () => {
      const found = await find()
      if ('missing' in found) return found
      return async (lab, side) => {
        const first = await lab.startOther(side, found.program, env)
        return { first, processes: async () => ({ tunnel: first.pid ?? 0 }) }
      }
    },
  }
}
