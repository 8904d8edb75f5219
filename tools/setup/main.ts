import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stateFolder, storesFolder } from '#apps/lab/paths.ts'
import { openProgress } from '#apps/lab/progress/progress.ts'
import { describeFault } from '#core/fault/fault.ts'
import { makeImages } from '../image/images.ts'
import { makeStore } from '../image/store.ts'
import { buildEngine } from './engine.ts'
import { buildPrograms, programsReady } from './programs.ts'
import { sourcesKey } from './sources.ts'

// The second half of `make setup`, see tools/setup.sh. Engine and Kubernetes programs are built one after the other, because
// each build uses all cores by itself; the Debian userland is fetched meanwhile, which is mostly waiting.
const root = new URL('../..', import.meta.url).pathname.replace(/\/$/, '')
const started = performance.now()
const progress = openProgress(process.stderr, process.stderr.isTTY, () => performance.now())
const interrupted = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.once(name, () => interrupted.abort(new Error(`stopped by ${name}`)))

try {
  const did = await setUp()
  if (did) progress.note(` Set up in ${((performance.now() - started) / 1000).toFixed(1)} s.`)
} catch (error) {
  progress.note(`setup failed: ${describeFault(error)}`)
  process.exitCode = 1
}

/** False when there was nothing to do. */
async function setUp(): Promise<boolean> {
  const stamp = join(root, 'build', 'setup')
  const { signal } = interrupted
  // the store is the machine's: another checkout may have filled it with its own images meanwhile
  const current = join(storesFolder(stateFolder()), 'current')
  const stampOf = (sources: string): string => `${sources} ${existsSync(current) ? readFileSync(current, 'utf8') : ''}`
  const done = existsSync(stamp) ? readFileSync(stamp, 'utf8') : ''
  if (programsReady() && existsSync(current) && done === stampOf(sourcesKey(root))) return false

  const userland = progress.step('Debian userland for the images', async (voice) => {
    const { baseLayer } = await import('../image/base.ts')
    await baseLayer((line) => voice.detail(line.slice(0, 60)))
  })
  userland.catch(() => undefined) // told where it is awaited
  await progress.step('Engine', async (voice) => await buildEngine(root, voice, signal))
  if (!programsReady()) {
    await progress.step('Kubernetes programs', async (voice) => await buildPrograms(voice, signal))
  }
  await userland
  // a file that changes from here on is seen by the next set-up
  const made = sourcesKey(root)
  await progress.step('Images', async (voice) => {
    const images = await makeImages(root, (text) => voice.detail(text))
    await makeStore(images, (text) => voice.detail(text))
  })
  mkdirSync(join(root, 'build'), { recursive: true })
  writeFileSync(stamp, stampOf(made))
  return true
}
