import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cacheFolder } from '#apps/lab/programs/cache.ts'
import { DEBIAN_SUITE } from '#tools/image/debian.ts'
import { keyOf } from '#tools/image/layers.ts'
import { unpackPackages } from '#tools/kernel/packages.ts'

/** What the program links to, in the numbering of {@link DEBIAN_SUITE}; headers last. */
const LIBRARIES =
  'bus-vdev crypto-ipsec-mb crypto-openssl cryptodev eal hash ipsec kvargs mbuf mempool mempool-ring net rcu ring security telemetry'.split(
    ' ',
  )
const PACKAGES = [
  ...LIBRARIES.map((name) => `librte-${name}23`),
  ...'libbsd0 libfdt1 libipsec-mb1 libmd0 libnuma1 libssl3 libbsd-dev libdpdk-dev'.split(' '),
]
/** DPDK's software drivers that the program is to have. */
const DRIVERS = ['crypto_openssl', 'crypto_aesni_gcm', 'crypto_chacha20_poly1305'] as const
export type Driver = (typeof DRIVERS)[number]

const exec = promisify(execFile)

/**
 * `esp-dpdk.c`, built beside the libraries of Debian's DPDK in the user's cache (10 MB are fetched for the first time);
 * nothing is installed. Or why it cannot be had.
 */
export async function dpdkEsp(): Promise<
  { program: string; args: readonly string[]; env: Record<string, string> } | { missing: string }
> {
  const source = new URL('esp-dpdk.c', import.meta.url).pathname
  const folder = join(
    cacheFolder(),
    'peers',
    `dpdk-${DEBIAN_SUITE}-${keyOf(1, [PACKAGES, readFileSync(source, 'utf8')])}`,
  )
  const partial = `${folder}.${process.pid}`
  const found = {
    program: join(folder, 'esp-dpdk'),
    args: DRIVERS.map((name) => `--vdev=${name}`),
    env: { LD_LIBRARY_PATH: join(folder, 'usr/lib/x86_64-linux-gnu') },
  }
  try {
    if (!existsSync(folder)) {
      mkdirSync(join(folder, '..'), { recursive: true })
      await unpackPackages(DEBIAN_SUITE, partial, () => PACKAGES)
      await compile(source, partial)
      renameSync(partial, folder)
    }
    // it ends at once, where the machine can run it at all: the drivers need AES-NI
    const child = exec(found.program, found.args, { env: { ...process.env, ...found.env }, timeout: 60_000 })
    child.child.stdin?.end()
    await child
    return found
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string }
    const why = (stderr?.trim() || message).split('\n').at(-1)
    return { missing: `needs cc and DPDK of Debian ${DEBIAN_SUITE}: ${why}` }
  } finally {
    rmSync(partial, { recursive: true, force: true })
  }
}

async function compile(source: string, folder: string): Promise<void> {
  const include = join(folder, 'usr/include')
  const libraries = LIBRARIES.map((name) => `-l:librte_${name.replaceAll('-', '_')}.so.23`)
  const flags = ['-O2', '-march=corei7', '-include', 'rte_config.h', '-DALLOW_EXPERIMENTAL_API']
  const paths = ['', 'dpdk', 'x86_64-linux-gnu/dpdk'].flatMap((name) => ['-I', join(include, name)])
  const program = ['-o', join(folder, 'esp-dpdk'), source]
  // drivers are known by being there; what they need in turn is found when they are loaded
  const linking = ['-L', join(folder, 'usr/lib/x86_64-linux-gnu'), '-Wl,--no-as-needed', '-Wl,--allow-shlib-undefined']
  await exec('cc', [...flags, ...paths, ...program, ...linking, ...libraries])
}
