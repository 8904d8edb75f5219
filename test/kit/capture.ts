import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { childrenOf, isIdle } from '#test/kit/idle.ts'
import type { Lab } from '#test/kit/lab.ts'

const pellicle = new URL('../../bin/pellicle', import.meta.url).pathname

/** tcpdump into a file, on the underlay between the nodes or on a device of a node. */
export class Capture implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #folder: string

  private constructor(child: ChildProcess, folder: string) {
    this.#child = child
    this.#folder = folder
  }

  static async start(
    lab: Lab,
    where: string,
    options: { device?: string; filter?: readonly string[] } = {},
  ): Promise<Capture> {
    const folder = mkdtempSync(join(tmpdir(), 'pellicle-capture-'))
    const device = options.device === undefined ? [] : ['-i', options.device]
    const args = [
      'lab',
      'capture',
      '--name',
      lab.name,
      '-w',
      join(folder, 'pcap'),
      ...device,
      where,
      ...(options.filter ?? []),
    ]
    const child = spawn(pellicle, args, { stdio: ['ignore', 'ignore', 'pipe'], env: lab.env })
    let said = ''
    await new Promise<void>((resolve, reject) => {
      child.stderr.on('data', (chunk: Buffer) => {
        said += chunk.toString()
        if (/listening on/.test(said)) resolve()
      })
      child.on('close', () => reject(new Error(`tcpdump ended: ${said}`)))
    })
    return new Capture(child, folder)
  }

  get file(): string {
    return join(this.#folder, 'pcap')
  }

  /** Ends the capture; all that was seen is in the file then. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    // the kernel hands over blocks that are full or a second old, and tcpdump reads no more once it is asked to end
    await sleep(1500)
    const tcpdump = innermost(this.#child.pid ?? 0)
    while (!isIdle(tcpdump)) await sleep(20)
    const closed = once(this.#child, 'close')
    this.#child.kill('SIGTERM')
    await closed
  }

  /** How often `text` stands in what was captured. Fewer than a handful of bytes would be found by chance. */
  async count(text: string): Promise<number> {
    await this.stop()
    const bytes = readFileSync(this.file)
    const marker = Buffer.from(text)
    let found = 0
    for (let at = bytes.indexOf(marker); at >= 0; at = bytes.indexOf(marker, at + marker.length)) found++
    return found
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** The last of those that started each other: the CLI, nsenter, tcpdump. */
function innermost(pid: number): number {
  const [child] = childrenOf(pid)
  return child === undefined ? pid : innermost(child)
}
