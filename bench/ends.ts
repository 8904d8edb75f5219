import type { ChildProcess } from 'node:child_process'
import type { TunnelLab } from '#test/kit/tunnel-lab.ts'

/** Two places with a network each, between which something is measured: namespaces, or pods of two nodes. */
export interface Ends {
  /** The address of end b as end a reaches it through what is measured. */
  readonly to: string
  start(end: 'a' | 'b', program: string, args: readonly string[]): ChildProcess
  /** Its standard output; rejects on any other exit code than 0. */
  run(end: 'a' | 'b', program: string, ...args: string[]): Promise<string>
}

export function endsOf(lab: TunnelLab, to: string): Ends {
  return {
    to,
    start: (end, program, args) => lab.start(lab[end], program, args),
    run: async (end, program, ...args) => await lab.run(lab[end], program, ...args),
  }
}
