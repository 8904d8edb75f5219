import type { IpFamily } from '#apps/lab/layout.ts'
import { labLoad } from '#apps/lab/load.ts'
import { openProgress } from '#apps/lab/progress/progress.ts'
import { labUp } from '#apps/lab/up.ts'
import type { CliContext } from '../../context.ts'
import type { LabFlags } from './flags.ts'

export interface UpFlags extends LabFlags {
  readonly nodes: number
  readonly ipFamily: IpFamily
  readonly kubernetesBin: string | undefined
  readonly retain: boolean
}

export async function up(this: CliContext, flags: UpFlags): Promise<void> {
  const progress = openProgress(this.process.stderr, this.terminal.stderr, () => this.clock.now())
  const result = await labUp(
    {
      name: flags.name,
      nodes: flags.nodes,
      family: flags.ipFamily,
      kubernetesBin: flags.kubernetesBin,
      retain: flags.retain,
    },
    progress,
    this.signal,
  )
  const name = flags.name === 'kind' ? '' : ` --name ${flags.name}`
  if (result === 'there') {
    await labLoad(flags.name, progress)
    progress.note(`The lab ${flags.name} is up already.`)
  } else progress.note(`The lab ${flags.name} is up; its nodes are NotReady until \`cilium install\` brings a network.`)
  progress.note(`Go on with: eval "$(bin/pellicle lab env${name})"   or: bin/pellicle lab shell${name}`)
}
