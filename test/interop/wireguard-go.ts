import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const MODULE = 'golang.zx2c4.com/wireguard'
const VERSION = 'v0.0.0-20260522210424-ecfc5a8d5446'

const exec = promisify(execFile)

/** The folder of its Go module in the module cache, downloaded when it is not there; or why not. */
export async function wireguardSources(): Promise<{ folder: string } | { missing: string }> {
  try {
    const { stdout } = await exec('go', ['mod', 'download', '-json', `${MODULE}@${VERSION}`], { timeout: 120_000 })
    return { folder: (JSON.parse(stdout) as { Dir: string }).Dir }
  } catch (error) {
    return {
      missing: `needs go and its module ${MODULE}: ${error instanceof Error ? error.message.split('\n')[0] : ''}`,
    }
  }
}

/**
 * The other implementation, built from its Go module once (about 20 s) and kept in the user's cache.
 * Gives why not, when it cannot be had: `{ missing }`.
 */
export async function wireguardGo(): Promise<{ program: string } | { missing: string }> {
  const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'pellicle', 'wireguard-go', VERSION)
  const program = join(cache, 'wireguard')
  if (existsSync(program)) return { program }
  try {
    await exec('go', ['version'])
  } catch {
    return { missing: 'needs go' }
  }
  try {
    await mkdir(cache, { recursive: true })
    const env = { ...process.env, GOBIN: cache, CGO_ENABLED: '0', GOFLAGS: '-trimpath' }
    await exec('go', ['install', '-ldflags=-s -w', `${MODULE}@${VERSION}`], { env, timeout: 300_000 })
    return { program }
  } catch (error) {
    return { missing: `needs the Go module ${MODULE}: ${error instanceof Error ? error.message.split('\n')[0] : ''}` }
  }
}
