import { nodeProcess } from './inside.ts'
import { labPaths, stateFolder } from './paths.ts'
import type { Progress } from './progress/progress.ts'
import { isAlive, requireUp, writeState } from './state.ts'
import { type Loaded, loadImages } from './store/load.ts'
import { requireStore } from './store/store.ts'

/** Brings the images of a running lab up to the newest store (see `make setup`). Nothing to do costs nothing. */
export async function labLoad(name: string, progress: Progress): Promise<readonly Loaded[]> {
  const folder = stateFolder()
  const paths = labPaths(folder, name)
  const { state, layout } = requireUp(paths, name)
  const store = requireStore(folder)
  if (store === (state.loaded ?? state.store)) return []
  const running = layout.nodeList.filter((node) => isAlive(state.nodes[node.name]))
  return await progress.step('Loading changed images into the nodes', async () => {
    const loaded = await Promise.all(
      running.map(async (node) => await loadImages(store, paths, node, nodeProcess(state, node.name))),
    )
    // a node that was off is given them at the next call
    if (running.length === layout.nodeList.length) writeState(paths, { ...state, loaded: store })
    return loaded
  })
}
