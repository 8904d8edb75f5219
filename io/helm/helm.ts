import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { helmFault } from './errors.ts'

export interface HelmOptions {
  /** The executable (locate.ts). */
  readonly program: string
  readonly namespace: string
  readonly kubeconfig: string | undefined
  readonly context: string | undefined
  readonly as: string | undefined
  readonly asGroups: readonly string[] | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  /** Helm is interrupted and may still mark its release as failed. */
  readonly signal: AbortSignal
}

export interface UpgradeOptions {
  readonly release: string
  /** Folder or archive. */
  readonly chart: string
  /** All values that are given; those of earlier revisions are not kept. */
  readonly values: Readonly<Record<string, unknown>>
  /** Rendered and checked by the API server, but not applied. */
  readonly dryRun: boolean
}

export interface HelmOutcome {
  readonly revision: number
  readonly manifest: string
  readonly notes: string
}

/** The real Helm as a child process: release Secrets, hooks and errors are its own. */
export class Helm {
  readonly #options: HelmOptions

  constructor(options: HelmOptions) {
    this.#options = options
  }

  /** Installs or upgrades. @throws Fault `helm.*` */
  async upgrade(options: UpgradeOptions): Promise<HelmOutcome> {
    // values may hold secrets: never on a command line, and in a file of ours alone
    const folder = await mkdtemp(join(tmpdir(), 'pellicle-values-'))
    try {
      const file = join(folder, 'values.json')
      await writeFile(file, JSON.stringify(options.values), { mode: 0o600 })
      const output = await this.#run([
        'upgrade',
        options.release,
        options.chart,
        '--install',
        '--reset-values',
        '--values',
        file,
        '--output',
        'json',
        ...(options.dryRun ? ['--dry-run=server'] : []),
      ])
      const release = JSON.parse(output) as { version: number; manifest: string; info?: { notes?: string } }
      return { revision: release.version, manifest: release.manifest, notes: release.info?.notes ?? '' }
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }

  /** Removes the release and its objects; they may still be ending when this is done. */
  async uninstall(release: string): Promise<void> {
    await this.#run(['uninstall', release, '--ignore-not-found'])
  }

  async #run(args: readonly string[]): Promise<string> {
    const { program, namespace, kubeconfig, context, as, asGroups = [], env, signal } = this.#options
    signal.throwIfAborted()
    const where = [
      '--namespace',
      namespace,
      ...(kubeconfig === undefined ? [] : ['--kubeconfig', kubeconfig]),
      ...(context === undefined ? [] : ['--kube-context', context]),
      ...(as === undefined ? [] : ['--kube-as-user', as]),
      ...asGroups.flatMap((group) => ['--kube-as-group', group]),
    ]
    const child = spawn(program, [...args, ...where], {
      stdio: ['ignore', 'pipe', 'pipe'],
      // releases are Secrets, also where the caller's own Helm keeps them elsewhere
      env: { ...env, HELM_DRIVER: 'secret', HELM_NAMESPACE: undefined },
    })
    const interrupt = (): void => {
      child.kill('SIGINT')
    }
    signal.addEventListener('abort', interrupt, { once: true })
    try {
      const ended = new Promise<number>((resolve, reject) => {
        child.once('error', reject)
        child.once('close', (code) => resolve(code ?? 1))
      })
      const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), ended])
      signal.throwIfAborted()
      if (code !== 0) throw helmFault(args[0] ?? '', stderr)
      return stdout
    } finally {
      signal.removeEventListener('abort', interrupt)
    }
  }
}
