import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Fault } from '#core/fault/fault.ts'

/**
 * A ConfigMap as kubelet mounts it: one file per key. Files that begin with a dot are kubelet's own (`..data`).
 * @throws Fault `config.unreadable`
 */
export async function readConfigDir(folder: string): Promise<Record<string, string>> {
  const data: Record<string, string> = {}
  try {
    for (const name of await readdir(folder)) {
      if (!name.startsWith('.')) data[name] = await readFile(join(folder, name), 'utf8')
    }
  } catch (error) {
    throw new Fault('config.unreadable', `configuration folder ${folder} cannot be read`, {
      field: '--config-dir',
      remedy: 'Let it name the folder where the ConfigMap cilium-config is mounted',
      cause: error,
    })
  }
  return data
}
