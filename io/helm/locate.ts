import { execFile } from 'node:child_process'
import { access, constants, readdir } from 'node:fs/promises'
import { homedir } from 'node:os'
import { basename, delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { Fault } from '#core/fault/fault.ts'

type Env = Readonly<Record<string, string | undefined>>

/** Helm 4 writes releases in other ways; before 3.14 `--dry-run=server` and others are missing. */
const FITTING = { major: 3, minor: 14 }

/**
 * The Helm to run: `PELLICLE_HELM`, else the newest that `make setup` built into the user's cache, else the one in PATH
 * if its version fits.
 * @throws Fault `helm.missing`
 */
export async function locateHelm(env: Env): Promise<string> {
  const named = env['PELLICLE_HELM']
  if (named !== undefined && named !== '') {
    if (await isExecutable(named)) return named
    throw missing(`PELLICLE_HELM names ${named}, which cannot be run`, 'Unset it, or let it name the helm executable')
  }
  const cache = join(env['XDG_CACHE_HOME'] || join(env['HOME'] || homedir(), '.cache'), 'pellicle')
  const built = await newestBuilt(cache)
  if (built !== undefined) return built
  const unfit: string[] = []
  for (const folder of (env['PATH'] ?? '').split(delimiter)) {
    const program = join(folder, 'helm')
    if (folder === '' || !(await isExecutable(program))) continue
    const version = await versionOf(program)
    if (fits(version)) return program
    unfit.push(`${program} is ${version}`)
  }
  const why = unfit.length === 0 ? 'there is no helm in PATH' : unfit.join(', ')
  throw missing(
    `Helm ${FITTING.major}.${FITTING.minor} or a newer 3.x is needed: ${why}`,
    'Run make setup, or install Helm 3',
  )
}

/**
 * What apps/lab keeps: `programs/helm-3.19.5-KEY` are single programs, `kubernetes/KEY/bin` whole sets. The newest version
 * that fits.
 */
async function newestBuilt(cache: string): Promise<string | undefined> {
  const list = async (folder: string) => await readdir(folder).catch(() => [])
  const single = (await list(join(cache, 'programs'))).filter((name) =>
    /^helm-[^.]+\.[^.]+\.[^.]+-[0-9a-f]{12}$/.test(name),
  )
  const candidates = [
    ...single.map((name) => join(cache, 'programs', name)),
    ...(await list(join(cache, 'kubernetes'))).map((key) => join(cache, 'kubernetes', key, 'bin', 'helm')),
  ]
  const found: { readonly program: string; readonly version: string }[] = []
  for (const program of candidates) {
    if (!(await isExecutable(program))) continue
    const named = /helm-(\d+\.\d+\.\d+)-/.exec(basename(program))?.[1]
    const version = named === undefined ? await versionOf(program) : `v${named}`
    if (fits(version)) found.push({ program, version })
  }
  return found.sort((a, b) => b.version.localeCompare(a.version, 'en', { numeric: true }))[0]?.program
}

async function isExecutable(path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}

async function versionOf(program: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(program, ['version', '--template', '{{.Version}}'], {
      timeout: 10_000,
    })
    return stdout.trim()
  } catch {
    return 'no Helm that answers'
  }
}

export function fits(version: string): boolean {
  const match = /^v?(\d+)\.(\d+)/.exec(version)
  return match !== null && Number(match[1]) === FITTING.major && Number(match[2]) >= FITTING.minor
}

function missing(sentence: string, remedy: string): Fault {
  return new Fault('helm.missing', sentence, { field: 'helm', remedy })
}
