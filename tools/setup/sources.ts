import { globSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { keyOf } from '../image/layers.ts'

/** A key of what images are made from, by names, sizes and times: cheap enough to ask at every `make`. */
export function sourcesKey(root: string): string {
  const patterns = [
    '{core,io,apps}/**/*.{ts,sh}',
    'apps/lab/programs/*/*',
    'tools/image/*.ts',
    'examples/web.js',
    'engine/{Cargo.toml,Cargo.lock}',
    'engine/!(target)/**/*.{rs,toml}',
    'engine/target/release/pellicle-{engine,cni}',
    'package.json',
    'package-lock.json',
  ]
  const files = globSync(patterns, { cwd: root })
    .filter((file) => !file.endsWith('.test.ts'))
    .toSorted()
  return keyOf(
    files.map((file) => {
      const { size, mtimeMs } = statSync(join(root, file))
      return [file, size, mtimeMs]
    }),
  )
}
