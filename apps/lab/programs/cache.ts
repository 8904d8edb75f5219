import { createHash } from 'node:crypto'
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PROGRAMS, type ProgramPin } from './pins.ts'

// Built programs are kept for all checkouts of a user: `programs/NAME-VERSION-KEY` is one program, `kubernetes/KEY/bin` a set
// of hard links to them. A key covers what decides the bytes, so a changed pin rebuilds only its own program.

export function cacheFolder(env: Readonly<Record<string, string | undefined>> = process.env): string {
  return join(env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'pellicle')
}

/** Flags of `go build` that are the same for all. CGO is off: the programs run in nodes and images with any libc. */
export const GO_BUILD_FLAGS: readonly string[] = ['-trimpath', '-mod=readonly', '-buildvcs=false']

export function linkerFlags(pin: ProgramPin): string {
  return ['-s', '-w', ...pin.linker].join(' ')
}

/** The folder of the pin's go.mod. */
export function moduleFolder(pin: ProgramPin): string {
  return fileURLToPath(new URL(pin.module, import.meta.url))
}

function programKey(pin: ProgramPin): string {
  const hash = createHash('sha256')
  hash.update(JSON.stringify([pin.name, pin.version, pin.package, linkerFlags(pin), GO_BUILD_FLAGS]))
  const folder = moduleFolder(pin)
  for (const file of readdirSync(folder).toSorted()) hash.update(file).update(readFileSync(join(folder, file)))
  return hash.digest('hex').slice(0, 12)
}

export function programPath(pin: ProgramPin, cache = cacheFolder()): string {
  return join(cache, 'programs', `${pin.name}-${pin.version}-${programKey(pin)}`)
}

/** The folder that holds the whole set under the programs' own names. */
export function programsFolder(cache = cacheFolder()): string {
  const key = createHash('sha256').update(PROGRAMS.map(programKey).join()).digest('hex').slice(0, 12)
  return join(cache, 'kubernetes', key, 'bin')
}

/** The names of `wanted` that `folder` lacks as executables. */
export function missingPrograms(
  folder: string,
  wanted: readonly string[] = PROGRAMS.map(({ name }) => name),
): string[] {
  return wanted.filter((name) => {
    try {
      accessSync(join(folder, name), constants.X_OK)
      return false
    } catch {
      return true
    }
  })
}
