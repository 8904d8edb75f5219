import { accessSync, constants, readdirSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'

/**
 * Where a Kubernetes program lies: `PELLICLE_KUBERNETES_BIN`, then what `make setup` built into the cache (newest
 * first), then PATH. Undefined when it is nowhere.
 */
export function findProgram(
  name: string,
  env: Readonly<Record<string, string | undefined>> = process.env,
): string | undefined {
  const cache = join(env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'pellicle', 'kubernetes')
  const folders = [
    ...(env['PELLICLE_KUBERNETES_BIN'] === undefined ? [] : [env['PELLICLE_KUBERNETES_BIN']]),
    ...foldersIn(cache),
    ...(env['PATH'] ?? '').split(delimiter),
  ]
  return folders.map((folder) => join(folder, name)).find(isProgram)
}

/** The cache, its folders and their `bin`, newest first. */
function foldersIn(cache: string): string[] {
  try {
    const inside = readdirSync(cache, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(cache, entry.name))
      .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)
    return [cache, ...inside.flatMap((folder) => [folder, join(folder, 'bin')])]
  } catch {
    return []
  }
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}
