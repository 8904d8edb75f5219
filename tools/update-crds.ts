import { execFileSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { generatedFiles } from './api/generated.ts'

/** Writes the CRD, the chart's values schema and its list of refused keys anew from the schemas in core/api. */
const root = join(import.meta.dirname, '..')
for (const [path, text] of generatedFiles()) {
  const file = join(root, path)
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, text)
  if (file.endsWith('.json'))
    execFileSync(join(root, 'node_modules/.bin/biome'), ['format', '--write', file], { cwd: root })
  console.log(path)
}
