import type { Readable } from 'node:stream'
import { PODS } from '#core/api/resources.ts'
import type { KubeClient, Scope } from './client.ts'
import { kubeFault, networkFault, type Status, statusFault } from './errors.ts'
import { definedOnly, readBody } from './transport.ts'

export interface ExecOptions extends Scope {
  readonly container?: string
  readonly stdin?: Readable
  readonly tty?: boolean
  /** Pieces as they come; what is given here is not gathered in the result. */
  readonly onStdout?: (chunk: Uint8Array) => void
  readonly onStderr?: (chunk: Uint8Array) => void
}

export interface ExecResult {
  readonly stdout: string
  readonly stderr: string
  readonly exitCode: number
}

/** Of what is gathered; more ends the call. */
const MOST_BYTES = 64 * 1024 * 1024
/** Channels of v5.channel.k8s.io (KEP-4006). */
const STDIN = 0
const STDOUT = 1
const STDERR = 2
const ERROR = 3
const CLOSE = 255

/**
 * Runs a command in a pod over one WebSocket (`v5.channel.k8s.io`, Kubernetes 1.30 or newer). Resolves with its exit
 * code, whatever that is.
 * @throws Fault when it could not be run, or the connection broke before the exit code came
 */
export async function exec(
  client: KubeClient,
  pod: string,
  command: readonly string[],
  options: ExecOptions = {},
): Promise<ExecResult> {
  const action = `exec in Pod ${pod}`
  // loaded here: the agent imports this folder, and never execs
  const { WebSocket } = await import('ws')
  const query = new URLSearchParams()
  for (const word of command) query.append('command', word)
  if (options.container !== undefined) query.set('container', options.container)
  query.set('stdout', 'true')
  // a terminal has one stream for both
  if (options.tty === true) query.set('tty', 'true')
  else query.set('stderr', 'true')
  if (options.stdin !== undefined) query.set('stdin', 'true')
  const scope = options.namespace === undefined ? {} : { namespace: options.namespace }
  const { server } = client.transport.connection
  const path = server.pathname.replace(/\/$/, '') + client.objectPath(PODS, pod, scope, 'exec')
  const url = new URL(`${path}?${query.toString()}`, server)
  url.protocol = server.protocol === 'https:' ? 'wss:' : 'ws:'
  const socket = new WebSocket(url, ['v5.channel.k8s.io'], {
    headers: await client.transport.headers(),
    handshakeTimeout: options.timeoutMs ?? 30_000,
    perMessageDeflate: false,
    ...definedOnly(await client.transport.tls()),
  })
  const gathered = { [STDOUT]: new Gatherer(options.onStdout), [STDERR]: new Gatherer(options.onStderr) }
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const abort = () => reject(options.signal?.reason as Error)
  options.signal?.addEventListener('abort', abort, { once: true })
  socket.on('unexpected-response', (_request, response) => {
    readBody(response, 65_536)
      .then((text) => reject(statusFault(action, response.statusCode ?? 0, statusOf(text))))
      .catch(reject)
  })
  socket.on('error', (error) => reject(networkFault(action, server.host, error)))
  socket.on('close', () => {
    reject(
      kubeFault('kube.exec', `${action}: the connection ended before the command`, {
        remedy: `Look whether the pod was restarted: kubectl describe pod ${pod}`,
      }),
    )
  })
  socket.on('open', () => {
    if (options.stdin === undefined) return
    options.stdin.on('data', (chunk: Uint8Array | string) => {
      socket.send(Buffer.concat([Buffer.from([STDIN]), Buffer.from(chunk as Uint8Array)]))
    })
    options.stdin.on('end', () => socket.send(Buffer.from([CLOSE, STDIN])))
  })
  socket.on('message', (data) => {
    const message = data as Buffer
    const [channel] = message
    const payload = message.subarray(1)
    if (channel === STDOUT || channel === STDERR) {
      if (!gathered[channel].add(payload)) {
        reject(kubeFault('kube.exec', `${action}: it printed more than ${MOST_BYTES} bytes`))
      }
    } else if (channel === ERROR) {
      const code = exitCode(statusOf(payload.toString('utf8')))
      if (typeof code === 'number') resolve(code)
      else reject(kubeFault('kube.exec', `${action}: ${code}`))
    }
  })
  try {
    const code = await promise
    return { stdout: gathered[STDOUT].text(), stderr: gathered[STDERR].text(), exitCode: code }
  } finally {
    options.signal?.removeEventListener('abort', abort)
    socket.removeAllListeners()
    // closing a socket that still connects reports an error that is ours
    socket.on('error', () => undefined)
    socket.terminate()
  }
}

class Gatherer {
  readonly #chunks: Uint8Array[] = []
  readonly #sink: ((chunk: Uint8Array) => void) | undefined
  #size = 0

  constructor(sink: ((chunk: Uint8Array) => void) | undefined) {
    this.#sink = sink
  }

  /** False when it is too much. */
  add(chunk: Uint8Array): boolean {
    if (this.#sink !== undefined) {
      if (chunk.length > 0) this.#sink(chunk)
      return true
    }
    this.#size += chunk.length
    if (this.#size <= MOST_BYTES) this.#chunks.push(chunk)
    return this.#size <= MOST_BYTES
  }

  text(): string {
    return Buffer.concat(this.#chunks).toString('utf8')
  }
}

function statusOf(text: string): Status | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}

/** The exit code that the last message tells, or why there is none. */
function exitCode(status: (Status & { readonly status?: string }) | undefined): number | string {
  if (status?.status === 'Success') return 0
  const causes = (status?.details?.causes ?? []) as readonly { reason?: string; message?: string }[]
  const code = causes.find((cause) => cause.reason === 'ExitCode')?.message
  return code !== undefined && /^\d+$/.test(code) ? Number(code) : (status?.message ?? 'no exit code came')
}
