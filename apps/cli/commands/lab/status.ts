import { labStatus } from '#apps/lab/status.ts'
import type { CliContext } from '../../context.ts'
import { Exit } from '../../exit.ts'
import type { LabFlags } from './flags.ts'

export interface StatusFlags extends LabFlags {
  readonly output: 'text' | 'json'
}

export async function status(this: CliContext, flags: StatusFlags): Promise<void> {
  const found = await labStatus(flags.name, this.env)
  if (flags.output === 'json') this.process.stdout.write(`${JSON.stringify(found, undefined, 2)}\n`)
  else {
    const write = (line: string): void => this.process.stdout.write(`${line}\n`)
    write(`Lab:         ${found.name} (${found.phase})`)
    if (found.phase !== 'absent') {
      write(`API server:  ${found.api}`)
      write(`Kubeconfig:  ${found.kubeconfig}`)
      for (const node of found.nodes) {
        write(
          `Node:        ${node.name.padEnd(22)} ${node.running ? 'running' : 'off'}  ${node.addresses.join(', ')}  pods ${node.podCidrs.join(', ')}`,
        )
      }
    }
  }
  if (found.phase !== 'up') throw new Exit(1)
}
