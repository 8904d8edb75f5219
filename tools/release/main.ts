import { statSync } from 'node:fs'
import { openProgress } from '#apps/lab/progress/progress.ts'
import { describeFault } from '#core/fault/fault.ts'
import { makeRelease } from './make.ts'
import { TARGETS } from './targets.ts'

// make release: `pellicle wireguard` as one folder and one tarball per kind of machine, in build/release. A kind that cannot
// be built here is named; that none could be is a failure.
//
//   main.ts [x64,arm64]
const root = new URL('../..', import.meta.url).pathname.replace(/\/$/, '')
const progress = openProgress(process.stderr, process.stderr.isTTY, () => performance.now())
const wanted = process.argv[2]?.split(',')
let made = 0
for (const target of TARGETS.filter(({ arch }) => wanted?.includes(arch) ?? true)) {
  try {
    const { archive } = await progress.step(
      `linux ${target.arch}`,
      async (voice) => await makeRelease(root, target, (text) => voice.detail(text)),
    )
    console.log(`${archive} (${(statSync(archive).size / 1e6).toFixed(0)} MB)`)
    made++
  } catch (error) {
    progress.note(`no release for linux ${target.arch}: ${describeFault(error)}`)
  }
}
if (made === 0) process.exitCode = 1
