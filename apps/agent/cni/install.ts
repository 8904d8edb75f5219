import { join } from 'node:path'
import { Fault } from '#core/fault/fault.ts'
import { readSmallFile, removeFile, writeFileAtomic } from '#io/store/file.ts'

/** Where the runtime looks for us, as the agent's container sees it. */
export interface CniPlaces {
  /** What the image carries. */
  readonly source: string
  readonly binFolder: string
  readonly configFolder: string
}

const CNI_EXECUTABLE = 'cilium-cni'
export const CNI_CONFLIST = '05-cilium.conflist'

/** 1.0.0 is what containerd 1.6 speaks; later ones take it as well. */
export const CONFLIST = {
  cniVersion: '1.0.0',
  name: 'cilium',
  plugins: [{ type: CNI_EXECUTABLE, 'enable-debug': false }],
}

/**
 * Puts the executable there first, then the configuration that names it: the runtime never reads one without the other.
 * What is already right is not touched. Called only when the agent can serve: from then on pods may start.
 */
export async function installCni(places: CniPlaces): Promise<void> {
  const executable = await readSmallFile(places.source)
  if (executable === undefined) {
    throw new Fault('cni.missing', `the image has no ${places.source}`, {
      field: places.source,
      remedy: 'Use an image that was built whole (make image).',
    })
  }
  await put(join(places.binFolder, CNI_EXECUTABLE), executable, 0o755)
  const text = `${JSON.stringify(CONFLIST, undefined, 2)}\n`
  await put(join(places.configFolder, CNI_CONFLIST), new TextEncoder().encode(text), 0o644)
}

/** The configuration goes; the executable stays, for the DELs of pods that are still there (ARCHITECTURE.md). */
export async function removeCni(places: CniPlaces): Promise<void> {
  await removeFile(join(places.configFolder, CNI_CONFLIST))
}

async function put(path: string, content: Uint8Array, mode: number): Promise<void> {
  const before = await readSmallFile(path)
  if (before !== undefined && Buffer.compare(before, content) === 0) return
  await writeFileAtomic(path, content, mode)
}
