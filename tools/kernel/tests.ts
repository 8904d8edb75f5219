import { globSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'

/** For nodes of the userspace datapath there: reading it file by file takes a minute. */
const KEEPER = { from: 'apps/keeper/main.ts', to: 'build/kernel-keeper.cjs' }

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
  const keeper = { entryPoints: [join(root, KEEPER.from)], outfile: join(root, KEEPER.to) }
  await build({ ...keeper, bundle: true, format: 'cjs', platform: 'node', target: 'node26', logLevel: 'error' })
  return outfile
}
