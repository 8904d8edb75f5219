import { labLoad } from '#apps/lab/load.ts'
import { openProgress } from '#apps/lab/progress/progress.ts'
import type { CliContext } from '../../context.ts'
import type { LabFlags } from './flags.ts'

export async function load(this: CliContext, flags: LabFlags): Promise<void> {
  const progress = openProgress(this.process.stderr, this.terminal.stderr, () => this.clock.now())
  const loaded = await labLoad(flags.name, progress)
  for (const { node, images, bytes } of loaded) {
    progress.note(
      `${node}: ${images.length === 0 ? 'nothing new' : `${images.join(', ')} (${Math.ceil(bytes / 1024)} KiB)`}`,
    )
  }
  if (loaded.length === 0) progress.note('The nodes have the newest images.')
}
