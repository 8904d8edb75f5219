import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

/**
 * Cilium's own CLI, built from its Go module: `cilium-cli/` beside this file pins it. It lives in Cilium's main module since
 * 1.17, on the main branch alone, so only pre-releases carry it; this is the newest of them that is served.
 */
const MODULE = 'github.com/cilium/cilium'
const CILIUM_CLI_VERSION = 'v1.18.0-pre.3'
const PACKAGE = `${MODULE}/cilium-cli/cmd/cilium`
const FOLDER = new URL('cilium-cli', import.meta.url).pathname
const PINS = ['go.mod', 'go.sum', 'charts/go.mod', 'charts/charts.go', 'charts/cilium-0.0.0.tgz']

const exec = promisify(execFile)

interface CliAnswer {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** The program with a home of its own: it leaves nothing in the user's. */
export class CiliumCli implements Disposable {
  readonly #program: string
  readonly #home = mkdtempSync(join(tmpdir(), 'cilium-cli-'))
  readonly #env: NodeJS.ProcessEnv

  /** `env`: with the cluster's KUBECONFIG. */
  constructor(program: string, env: NodeJS.ProcessEnv) {
    this.#program = program
    this.#env = { PATH: env['PATH'], KUBECONFIG: env['KUBECONFIG'], HOME: this.#home }
  }

  /** One command line; a failure is an answer too. */
  async ask(...args: string[]): Promise<CliAnswer> {
    const options = { env: this.#env, cwd: this.#home, maxBuffer: 1 << 26, timeout: 360_000 }
    try {
      return { code: 0, ...(await exec(this.#program, args, options)) }
    } catch (error) {
      const { code, stdout = '', stderr = '' } = error as { code?: number; stdout?: string; stderr?: string }
      return { code: typeof code === 'number' ? code : -1, stdout, stderr: stderr || String(error) }
    }
  }

  /** What it prints. Rejects when it fails. */
  async say(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.ask(...args)
    if (code !== 0) throw new Error(`cilium-cli ${args.join(' ')} ended with ${code}:\n${stdout}${stderr}`)
    return stdout
  }

  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.say(...args, '-o', 'json')) as T
  }

  [Symbol.dispose](): void {
    rmSync(this.#home, { recursive: true, force: true })
  }
}

/** Built once (minutes) and kept in the user's cache; or why it cannot be had. */
export async function ciliumCli(): Promise<{ readonly program: string } | { readonly missing: string }> {
  const folder = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'pellicle', 'cilium-cli')
  const program = join(folder, `cilium-${CILIUM_CLI_VERSION}-${keyOfPins()}`)
  if (existsSync(program)) return { program }
  try {
    await exec('go', ['version'])
  } catch {
    return { missing: 'needs go' }
  }
  const partial = `${program}.${process.pid}`
  try {
    await mkdir(folder, { recursive: true })
    const env = { ...process.env, CGO_ENABLED: '0', GOFLAGS: '', GOWORK: 'off' }
    const linker = `-s -w -X ${MODULE}/cilium-cli/defaults.CLIVersion=${CILIUM_CLI_VERSION}`
    const flags = ['-trimpath', '-mod=readonly', '-buildvcs=false', '-ldflags', linker]
    await exec('nice', ['go', 'build', ...flags, '-o', partial, PACKAGE], { cwd: FOLDER, env, maxBuffer: 1 << 24 })
    await rename(partial, program)
    return { program }
  } catch (error) {
    const { stderr = '', message } = error as { stderr?: string; message: string }
    const why = stderr.trim().split('\n').slice(-3).join(' ') || message
    return { missing: `needs the Go module ${MODULE}@${CILIUM_CLI_VERSION}: ${why}` }
  } finally {
    await rm(partial, { force: true })
  }
}

function keyOfPins(): string {
  const hash = createHash('sha256')
  for (const file of PINS) hash.update(file).update(readFileSync(join(FOLDER, file)))
  return hash.digest('hex').slice(0, 12)
}
