import { type ChildProcess, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import type { Lab } from '#test/kit/lab.ts'

const main = new URL('main.ts', import.meta.url).pathname
/**
 * Before everything else on a busy machine: a sender that gets no processor for half a second sends what was due in one
 * burst, and an echo that gets none lets its socket overflow; neither says anything of what lies between them. (A nice
 * value counts only within a session where the kernel groups by those; real time counts everywhere.)
 */
export const FIRST: readonly string[] =
  spawnSync('chrt', ['--rr', '1', 'true']).status === 0 ? ['chrt', '--rr', '1'] : ['nice', '-n', '-20']

/** What a probe counted, in packets; `longestRun` is the longest run of lost ones. */
export interface ProbeResult {
  readonly sent: number
  readonly lost: number
  readonly duplicates: number
  readonly refused: number
  readonly longestRun: number
  /** Every run of lost ones. */
  readonly gaps: readonly (readonly [first: number, length: number])[]
  readonly rate: number
}

/** A pod, where it runs, and the name of its network namespace there. */
export interface Pod {
  readonly node: string
  readonly ip: string
  readonly netns: string
}

/** A pod, or without `netns` the node itself. */
export interface ProbePlace {
  readonly node: string
  readonly netns?: string | undefined
}

/** Finds a pod by name (`namespace/name` or a name in `default`) and its network namespace on its node. */
export async function findPod(lab: Lab, name: string): Promise<Pod> {
  const [namespace, pod] = name.includes('/') ? (name.split('/') as [string, string]) : ['default', name]
  const text = await lab.sh(`kubectl -n ${namespace} get pod ${pod} -o jsonpath='{.spec.nodeName} {.status.podIP}'`)
  const [node, ip] = text.trim().split(' ') as [string, string]
  return { node, ip, netns: await findNetns(lab, node, ip) }
}

/** The name, on its node, of the network namespace that has an address. */
export async function findNetns(lab: Lab, node: string, ip: string): Promise<string> {
  const script = `for n in $(ip netns list | cut -d' ' -f1); do ip -n $n -o addr 2>/dev/null | grep -q " ${ip}/" && echo $n && exit; done; exit 1`
  return (await lab.node(node, script)).trim()
}

/** Answers UDP at a pod or a node until disposed. */
export async function startEcho(lab: Lab, at: ProbePlace, port: number): Promise<AsyncDisposable> {
  const child = lab.startAt(at, ...FIRST, process.execPath, main, 'echo', String(port))
  await once(child.stdout as NodeJS.ReadableStream, 'data')
  return { [Symbol.asyncDispose]: () => end(child) }
}

/** Sends on a strict schedule from one pod to another while something happens. */
export class Probe {
  /** Resolves when it sends; also when it ended before. */
  readonly started: Promise<void>
  readonly #child: ChildProcess
  readonly #output: Promise<string>

  constructor(
    lab: Lab,
    from: ProbePlace,
    to: { ip: string },
    port: number,
    options: { rate?: number; seconds?: number; text?: string } = {},
  ) {
    const flags = ['--rate', String(options.rate ?? 1000), '--seconds', String(options.seconds ?? 600)]
    const text = options.text === undefined ? [] : ['--text', options.text]
    this.#child = lab.startAt(from, ...FIRST, process.execPath, main, 'send', to.ip, String(port), ...flags, ...text)
    let output = ''
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
    const ended = once(this.#child, 'close')
    this.#output = ended.then(() => output)
    this.started = new Promise((resolve) => {
      this.#child.stderr?.once('data', () => resolve())
      // whoever asks for the result is told why
      ended.then(() => resolve()).catch(() => resolve())
    })
  }

  /** Ends the sending and counts. */
  async stop(): Promise<ProbeResult> {
    this.#child.stdin?.end()
    return await this.result()
  }

  /** Waits for the given time to pass and counts. */
  async result(): Promise<ProbeResult> {
    const output = await this.#output
    if (output.trim() === '') throw new Error('the probe printed nothing')
    return JSON.parse(output) as ProbeResult
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const closed = once(child, 'close')
  child.stdin?.end()
  await closed
}
