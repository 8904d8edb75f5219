import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generatedFiles } from './api/generated.ts'

/** Fails when a generated file is not what the schemas in core/api say; how JSON is laid out does not count. */
const root = join(import.meta.dirname, '..')
let stale = 0
for (const [path, text] of generatedFiles()) {
  const there = await readFile(join(root, path), 'utf8').catch(() => undefined)
  if (there !== undefined && content(path, there) === content(path, text)) continue
  stale++
  console.error(`${path} ${there === undefined ? 'is missing' : 'is stale'}: run tools/update-crds.ts`)
}
process.exitCode = stale === 0 ? 0 : 1

function content(path: string, text: string): string {
  return path.endsWith('.json') ? JSON.stringify(JSON.parse(text)) : text
}
