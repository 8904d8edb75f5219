import { killNode, shutNodeDown, switchNodeOn } from '#apps/lab/power.ts'
import { openProgress } from '#apps/lab/progress/progress.ts'
import type { CliContext } from '../../context.ts'
import type { LabFlags } from './flags.ts'

export type NodeVerb = 'start' | 'stop' | 'kill'

type NodeCommand = (this: CliContext, flags: LabFlags, node: string) => Promise<void>

const TITLES: Readonly<Record<NodeVerb, string>> = { start: 'Starting', stop: 'Stopping', kill: 'Killing' }
const WORK = { start: switchNodeOn, stop: shutNodeDown, kill: killNode }

function command(verb: NodeVerb): NodeCommand {
  return async function run(flags, node) {
    const progress = openProgress(this.process.stderr, this.terminal.stderr, () => this.clock.now())
    await progress.step(`${TITLES[verb]} ${node}`, async () => await WORK[verb](flags.name, node))
  }
}

export const nodeCommands: Readonly<Record<NodeVerb, NodeCommand>> = {
  start: command('start'),
  stop: command('stop'),
  kill: command('kill'),
}
