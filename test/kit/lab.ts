import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, parse } from 'node:path'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { nodeProcess } from '#apps/lab/inside.ts'
import { labPaths, stateFolder } from '#apps/lab/paths.ts'
import { requireUp } from '#apps/lab/state.ts'

const run = promisify(execFile)
const root = new URL('../..', import.meta.url).pathname
const pellicle = join(root, 'bin/pellicle')

/** A real cluster of its own for one scenario; ended with the test, also after failure. */
export class Lab implements AsyncDisposable {
  readonly name: string
  /** PATH and KUBECONFIG of the lab, as `pellicle lab env` gives them. */
  readonly env: NodeJS.ProcessEnv
  readonly #children = new Set<ChildProcess>()

  private constructor(name: string, env: NodeJS.ProcessEnv) {
    this.name = name
    this.env = env
  }

  /** `progress` says where the lab's own progress goes: into the error if it fails, or to this process' stderr. */
  static async up(name: string, flags: readonly string[] = [], progress: 'keep' | 'inherit' = 'keep'): Promise<Lab> {
    await refuseExisting(name)
    const up = run(pellicle, ['lab', 'up', '--name', name, ...flags], { maxBuffer: 1 << 24 })
    if (progress === 'inherit') up.child.stderr?.pipe(process.stderr, { end: false })
    await up
    const { stdout } = await run('bash', ['-c', `eval "$(${pellicle} lab env --name ${name})" && env -0`])
    const env = Object.fromEntries(
      stdout
        .split('\0')
        .filter((pair) => pair.includes('='))
        .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
    )
    return new Lab(name, env)
  }

  /** Runs bash on the machine with the lab's environment, in examples/. Rejects with both outputs on failure. */
  async sh(script: string, seconds = 180): Promise<string> {
    const options = { env: this.env, cwd: this.examples, maxBuffer: 1 << 26, timeout: seconds * 1000 }
    try {
      return (await run('bash', ['--norc', '-eo', 'pipefail', '-c', script], options)).stdout
    } catch (error) {
      const { stdout, stderr } = error as { stdout?: string; stderr?: string }
      throw new Error(`failed: ${script}\n${stdout ?? ''}${stderr ?? ''}`, { cause: error })
    }
  }

  /** Runs bash inside a node. */
  async node(node: string, script: string, seconds = 120): Promise<string> {
    const args = ['lab', 'exec', '--name', this.name, node, '--', 'bash', '-c', script]
    return (await run(pellicle, args, { maxBuffer: 1 << 26, timeout: seconds * 1000 })).stdout
  }

  /** Starts a program inside a node; the caller ends it. */
  start(node: string, ...command: string[]): ChildProcess {
    return this.#spawn(pellicle, ['lab', 'exec', '--name', this.name, node, '--', ...command])
  }

  /**
   * Starts a program of the machine in the network of a node, or of a pod by its namespace's name there. Files are the
   * machine's: a node has a /tmp of its own, so a checkout below it is not seen from inside.
   */
  startAt(place: { readonly node: string; readonly netns?: string | undefined }, ...command: string[]): ChildProcess {
    const { state } = requireUp(labPaths(stateFolder(this.env), this.name), this.name)
    const process = `/proc/${nodeProcess(state, place.node)}`
    const network = place.netns === undefined ? `${process}/ns/net` : `${process}/root/run/netns/${place.netns}`
    return this.#spawn('nsenter', [`--net=${network}`, '--', ...command])
  }

  #spawn(program: string, args: readonly string[]): ChildProcess {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], env: this.env })
    this.#children.add(child)
    child.on('exit', () => this.#children.delete(child))
    return child
  }

  get examples(): string {
    return join(root, 'examples')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // those that a failure left behind would keep the test's process until its time is up
    for (const child of this.#children) child.kill()
    // what the agents said, for whoever asks why; without a cluster that answers there is nothing to keep
    const kept = join(root, 'build/logs')
    // labs of several scenarios have one name
    const file = join(kept, `${this.name}-${parse(process.argv[1] ?? '').name}.log`)
    const agents =
      'timeout 15 kubectl -n kube-system logs -l k8s-app=cilium -c cilium-agent --prefix --timestamps --tail=-1'
    await this.sh(`mkdir -p ${kept} && ${agents} > ${file}`, 20).catch(() => undefined)
    await run(pellicle, ['lab', 'down', '--name', this.name])
  }
}

/** A scenario makes and ends its own lab: one of that name that somebody else uses is not touched. */
async function refuseExisting(name: string): Promise<void> {
  const there = await run(pellicle, ['lab', 'status', '--name', name]).then(
    () => true,
    () => false,
  )
  if (there) throw new Error(`a lab named ${name} is up; end it first: bin/pellicle lab down --name ${name}`)
}

/** What a lab needs; undefined when everything is there. */
function labMissing(): string | undefined {
  if (process.getuid?.() !== 0) return 'root (a lab makes namespaces)'
  if (!existsSync('/dev/net/tun')) return '/dev/net/tun'
  return undefined
}

/** A lab for this test, or the test skipped with what is missing. */
export async function labFor(t: TestContext, name: string, flags: readonly string[] = []): Promise<Lab | undefined> {
  const missing = labMissing()
  if (missing !== undefined) {
    t.skip(`needs ${missing}`)
    return undefined
  }
  return await Lab.up(name, flags)
}

/**
 * Repeats until `check` gives something or the time is up; the last error is the cause. On a machine so slow that few
 * checks fit into the time, it is up after ten of them.
 */
export async function eventually<T>(what: string, seconds: number, check: () => Promise<T | undefined>): Promise<T> {
  const deadline = Date.now() + seconds * 1000
  let last: unknown
  for (let checks = 1; ; checks++) {
    try {
      const value = await check()
      if (value !== undefined) return value
    } catch (error) {
      last = error
    }
    if (Date.now() > deadline && checks >= 10) throw new Error(`not within ${seconds} s: ${what}`, { cause: last })
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}
