import { removeLab } from '#apps/lab/down.ts'
import { stateFolder } from '#apps/lab/paths.ts'
import { openProgress } from '#apps/lab/progress/progress.ts'
import type { CliContext } from '../../context.ts'
import type { LabFlags } from './flags.ts'

export async function down(this: CliContext, flags: LabFlags): Promise<void> {
  const progress = openProgress(this.process.stderr, this.terminal.stderr, () => this.clock.now())
  const folder = stateFolder(this.env)
  const { name } = flags
  const there = await progress.step(`Removing the lab ${name}`, async () => await removeLab(folder, name))
  if (!there) progress.note(`There was no lab named ${name}.`)
}
