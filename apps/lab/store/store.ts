import { copyFileSync, existsSync, linkSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '#core/fault/fault.ts'
import { type NodePaths, storesFolder } from '../paths.ts'

/** Where nodes see the store that they were seeded from (see node/init.sh). */
const IN_NODE = '/var/lib/pellicle-store'
const SNAPSHOTS = 'io.containerd.snapshotter.v1.overlayfs/snapshots'

/** The newest store of images: a folder that containerd has filled and left. `make setup` makes it. */
export function requireStore(state: string): string {
  const current = join(storesFolder(state), 'current')
  if (existsSync(current)) return join(storesFolder(state), readFileSync(current, 'utf8').trim())
  throw new Fault('lab.images', 'the images of the lab are not made yet', { remedy: 'Run `make setup`' })
}

/**
 * Gives a node a containerd store of its own: real copies of the databases, hard links for contents, and for the unpacked
 * layers, which are thousands of files, one symbolic link each.
 */
export function seedNode(store: string, paths: NodePaths): void {
  const target = join(paths.disk, 'var/lib/containerd')
  mkdirSync(target, { recursive: true })
  link(store, target, '')
}

function link(store: string, target: string, path: string): void {
  for (const entry of readdirSync(join(store, path), { withFileTypes: true })) {
    const below = join(path, entry.name)
    if (entry.isDirectory() && path === SNAPSHOTS) symlinkSync(join(IN_NODE, below), join(target, below))
    else if (entry.isDirectory()) {
      mkdirSync(join(target, below), { mode: 0o711 })
      link(store, target, below)
    } else if (entry.name.endsWith('.db')) copyFileSync(join(store, below), join(target, below))
    else if (entry.isFile()) linkSync(join(store, below), join(target, below))
  }
}
