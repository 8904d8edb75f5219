import { copyFileSync, linkSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { run } from '#apps/lab/process/run.ts'
import {
  GO_BUILD_FLAGS,
  linkerFlags,
  missingPrograms,
  moduleFolder,
  programPath,
  programsFolder,
} from '#apps/lab/programs/cache.ts'
import { PROGRAMS, type ProgramPin } from '#apps/lab/programs/pins.ts'
import { programVersion, saysVersion } from '#apps/lab/programs/version.ts'
import type { StepVoice } from '#apps/lab/progress/progress.ts'

/** Whether every program of the set is there; stats only. */
export function programsReady(): boolean {
  return missingPrograms(programsFolder()).length === 0
}

/**
 * Builds what the cache lacks, one program after the other: `go build` uses all cores by itself, and the later ones find
 * most packages compiled. Go's own build cache is the user's default one (a second one would cost 3.3 GB).
 */
export async function buildPrograms(voice: StepVoice, signal: AbortSignal): Promise<void> {
  const missing = PROGRAMS.filter((pin) => !exists(programPath(pin)))
  for (const [index, pin] of missing.entries()) {
    voice.detail(`${pin.name} ${pin.version}, ${index + 1} of ${missing.length}`)
    if (!(await takeFromPath(pin))) await build(pin, signal)
  }
  const folder = programsFolder()
  mkdirSync(folder, { recursive: true })
  for (const pin of PROGRAMS) {
    const target = join(folder, pin.name)
    if (exists(target)) continue
    linkSync(programPath(pin), target)
  }
}

/** A program of the right version on PATH is taken as it is. Those that go into images are built: they must be static. */
async function takeFromPath(pin: ProgramPin): Promise<boolean> {
  if (!saysVersion(pin)) return false
  for (const folder of (process.env['PATH'] ?? '').split(':')) {
    const file = join(folder, pin.name)
    if (folder === '' || !exists(file)) continue
    if ((await programVersion(pin, file)) !== pin.version) continue
    const target = programPath(pin)
    mkdirSync(dirname(target), { recursive: true })
    copyFileSync(file, `${target}.${process.pid}`)
    renameSync(`${target}.${process.pid}`, target)
    return true
  }
  return false
}

async function build(pin: ProgramPin, signal: AbortSignal): Promise<void> {
  const target = programPath(pin)
  mkdirSync(dirname(target), { recursive: true })
  const partial = `${target}.${process.pid}`
  try {
    await run('go', ['build', ...GO_BUILD_FLAGS, '-ldflags', linkerFlags(pin), '-o', partial, pin.package], {
      cwd: moduleFolder(pin),
      env: { ...process.env, CGO_ENABLED: '0', GOFLAGS: '', GOWORK: 'off' },
      signal,
    })
    renameSync(partial, target)
  } finally {
    rmSync(partial, { force: true })
  }
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined
}
