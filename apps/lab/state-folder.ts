import { mkdirSync, statfsSync } from 'node:fs'
import { run } from './process/run.ts'

const OVERLAY_MAGIC = 0x79_4c_76_30

/**
 * Makes the folder of all labs. Where the machine's root is an overlay itself (it runs in a container), nothing in it can be the
 * upper layer of a node's root: then a tmpfs is mounted there, which holds images and labs in memory and stays until the
 * machine goes or somebody unmounts it.
 */
export async function prepareStateFolder(folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true, mode: 0o711 })
  if (statfsSync(folder).type !== OVERLAY_MAGIC) return
  await run('mount', ['-t', 'tmpfs', '-o', 'mode=711,size=75%', 'pellicle-lab', folder])
}
