import { execFile } from 'node:child_process'
import { access, constants, readdir } from 'node:fs/promises'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
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
  const built = await newestBuilt(
    join(env['XDG_CACHE_HOME'] || join(env['HOME'] || homedir(), '.cache'), 'pellicle', 'programs'),
  )
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

/** `helm-3.19.5-0123456789ab`, as apps/lab names what it builds. */
async function newestBuilt(folder: string): Promise<string | undefined> {
  const names = await readdir(folder).catch(() => [])
  const found = names
    .map((name) => ({ name, match: /^helm-(\d+)\.(\d+)\.(\d+)-[0-9a-f]{12}$/.exec(name) }))
    .filter(({ match }) => match !== null && fits(`v${match[1]}.${match[2]}`))
    .sort((a, b) => b.name.localeCompare(a.name, 'en', { numeric: true }))
  for (const { name } of found) {
    const program = join(folder, name)
    if (await isExecutable(program)) return program
  }
  return undefined
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
