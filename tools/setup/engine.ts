import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { run } from '#apps/lab/process/run.ts'
import type { StepVoice } from '#apps/lab/progress/progress.ts'

/** Builds the Rust workspace; cargo itself knows in a fraction of a second when nothing has changed. */
export async function buildEngine(root: string, voice: StepVoice, signal: AbortSignal): Promise<void> {
  const folder = join(root, 'engine')
  if (!existsSync(join(folder, 'Cargo.toml'))) return
  await run('cargo', ['build', '--release', '--locked'], {
    cwd: folder,
    signal,
    onLine: (line) => {
      const what = /^\s*(?:Compiling|Downloaded) (\S+)/.exec(line)?.[1]
      if (what !== undefined) voice.detail(what)
    },
  })
}
