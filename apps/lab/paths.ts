import { join } from 'node:path'

export const STANDARD_FOLDER = '/var/lib/pellicle'

/** Everything of all labs lies here; it must not lie on an overlay (`PELLICLE_LAB_FOLDER` names another folder). */
export function stateFolder(env: Readonly<Record<string, string | undefined>> = process.env): string {
  return env['PELLICLE_LAB_FOLDER'] || STANDARD_FOLDER
}

export function labsFolder(state: string): string {
  return join(state, 'lab')
}

/** A containerd store that already holds the images; nodes get it by links. */
export function storesFolder(state: string): string {
  return join(state, 'store')
}

export interface LabPaths {
  readonly folder: string
  readonly state: string
  readonly kubeconfig: string
  readonly pki: string
  readonly log: string
}

export function labPaths(state: string, name: string): LabPaths {
  const folder = join(labsFolder(state), name)
  return {
    folder,
    state: join(folder, 'lab.json'),
    kubeconfig: join(folder, 'kubeconfig'),
    pki: join(folder, 'pki'),
    log: join(folder, 'log'),
  }
}

export interface NodePaths {
  readonly folder: string
  /** Upper folder of the node's root: what is written here before the start is what the node finds. */
  readonly upper: string
  readonly work: string
  readonly root: string
  /** Folders that cannot lie on an overlay, mounted into the root. */
  readonly disk: string
  readonly log: string
}

export function nodePaths(lab: LabPaths, node: string): NodePaths {
  const folder = join(lab.folder, 'nodes', node)
  return {
    folder,
    upper: join(folder, 'upper'),
    work: join(folder, 'work'),
    root: join(folder, 'root'),
    disk: join(folder, 'disk'),
    log: join(folder, 'log'),
  }
}
