import { labNames, removeLab } from '#apps/lab/down.ts'
import { stateFolder } from '#apps/lab/paths.ts'
import { openProgress } from '#apps/lab/progress/progress.ts'
import type { CliContext } from '../../context.ts'
import type { DownFlags } from './routes.ts'

export async function down(this: CliContext, flags: DownFlags): Promise<void> {
  const progress = openProgress(this.process.stderr, this.terminal.stderr, () => this.clock.now())
  const folder = stateFolder(this.env)
  const names = flags.all ? labNames(folder) : [flags.name]
  if (names.length === 0) progress.note('There is no lab.')
  for (const name of names) {
    const there = await progress.step(`Removing the lab ${name}`, async () => await removeLab(folder, name))
    if (!there) progress.note(`There was no lab named ${name}.`)
  }
}
