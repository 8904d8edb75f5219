import { globSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'

/**
 * One bundle of JavaScript for all tests of the guest: reading hundreds of files and stripping their types takes half a
 * minute in an emulated machine. Kept inside the checkout, so that koffi, a native file, is found beside it.
 */
export async function bundleTests(root: string, pattern = 'test/kernel/**/*.test.ts'): Promise<string> {
  const files = globSync(pattern, { cwd: root }).toSorted()
  const outfile = join(root, 'build/kernel-tests.mjs')
  rmSync(outfile, { force: true })
  await build({
    stdin: { contents: files.map((file) => `import './${file}'`).join('\n'), resolveDir: root, loader: 'ts' },
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node26',
    external: ['koffi'],
    sourcemap: 'inline',
    logLevel: 'warning',
  })
  return outfile
}
