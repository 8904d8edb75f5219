import { Fault } from '#core/fault/fault.ts'
import type { DbgContext } from '../context.ts'

export interface CleanupFlags {
  readonly force: boolean
}

export async function cleanup(this: DbgContext, flags: CleanupFlags): Promise<void> {
  if (!flags.force) {
    throw new Fault('cleanup.unconfirmed', 'this takes the network from the pods of this node until the next install', {
      field: '--force',
      remedy: `Say ${this.program} cleanup --force, or run pellicle uninstall to clean every node.`,
    })
  }
  const { removed } = (await this.agent.post('/v1/cleanup')) as { removed: readonly string[] }
  this.process.stdout.write(removed.map((what) => `removed ${what}\n`).join(''))
}
