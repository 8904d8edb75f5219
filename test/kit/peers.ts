import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cacheFolder } from '#apps/lab/programs/cache.ts'
import { DEBIAN_SUITE, makeDebianTree } from '#tools/image/debian.ts'
import { keyOf } from '#tools/image/layers.ts'

/**
 * Other implementations, each built by its own package manager once and kept in the user's cache. Whoever asks is told
 * why one cannot be had: `{ missing }`.
 */
export type Found = { readonly program: string } | { readonly missing: string }

const exec = promisify(execFile)
const folder = join(cacheFolder(), 'peers')

/** Of crates.io: the crate, its version, and the name of its program. */
interface Crate {
  readonly crate: string
  readonly version: string
  readonly program: string
}

const BORINGTUN: Crate = { crate: 'boringtun-cli', version: '0.7.1', program: 'boringtun-cli' }
const GOTATUN: Crate = { crate: 'gotatun-cli', version: '0.10.2', program: 'gotatun' }

export const boringtun = async (): Promise<Found> => await crateProgram(BORINGTUN)
export const gotatun = async (): Promise<Found> => await crateProgram(GOTATUN)

/** One to four minutes of compiling for the first time. */
async function crateProgram({ crate, version, program }: Crate): Promise<Found> {
  const home = join(folder, `${crate}-${version}`)
  const path = join(home, 'bin', program)
  if (existsSync(path)) return { program: path }
  try {
    await exec('cargo', ['install', '--locked', '--root', home, `${crate}@${version}`], {
      timeout: 900_000,
      maxBuffer: 1 << 26,
    })
    return { program: path }
  } catch (error) {
    return { missing: `needs cargo and the crate ${crate} ${version}: ${lastLine(error)}` }
  }
}

const PACKAGES = [
  'iproute2',
  'libcharon-extra-plugins',
  'libstrongswan-extra-plugins',
  'libstrongswan-standard-plugins',
  'strongswan-charon',
  'strongswan-swanctl',
  'wireguard-go',
] as const

/**
 * A small Debian with its strongSwan and its wireguard-go, in a folder of its own: nothing is installed on the machine
 * (40 s and 230 MB for the first time). `what`: the program that is wanted of it.
 */
export async function fromDebian(what: string): Promise<{ tree: string; program: string } | { missing: string }> {
  const tree = join(folder, `debian-${DEBIAN_SUITE}-${keyOf(1, PACKAGES)}`)
  const program = join(tree, what)
  if (existsSync(tree)) return existsSync(program) ? { tree, program } : { missing: `Debian's tree lacks ${what}` }
  const partial = `${tree}.${process.pid}`
  try {
    mkdirSync(folder, { recursive: true })
    await makeDebianTree(partial, { variant: 'minbase', packages: PACKAGES, format: 'directory' })
    renameSync(partial, tree)
    return { tree, program }
  } catch (error) {
    return { missing: `needs mmdebstrap and packages of Debian: ${lastLine(error)}` }
  } finally {
    rmSync(partial, { recursive: true, force: true })
  }
}

export const debianWireguardGo = async (): Promise<Found> => await fromDebian('usr/bin/wireguard-go')

function lastLine(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message: string }
  return (stderr?.trim() || message).split('\n').at(-1) ?? ''
}
