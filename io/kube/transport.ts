import http from 'node:http'
import https from 'node:https'
import { type Clock, SYSTEM_CLOCK } from './clock.ts'
import { Credentials, readPem } from './credentials.ts'
import { kubeFault, networkFault, type Status, statusFault } from './errors.ts'
import type { Connection } from './kubeconfig.ts'

export interface RawRequest {
  readonly method: string
  /** Begins with a slash, with its query. */
  readonly path: string
  /** What is tried on which object, for errors: `get node kind-worker`. */
  readonly action: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  readonly signal?: AbortSignal | undefined
  /** Until the answer begins; standard 30 s. */
  readonly timeoutMs?: number
}

/** Where a socket goes and how it is secured; WebSockets need the same. */
export interface TlsIdentity {
  readonly ca: string | undefined
  readonly cert: string | undefined
  readonly key: string | undefined
  readonly servername: string | undefined
  readonly rejectUnauthorized: boolean
}

const TIMEOUT_MS = 30_000
const MOST_TRIES = 6
/** An error text is short; a proxy's error page may not be. */
const MOST_ERROR_BYTES = 64 * 1024

/** HTTP/1.1 to one API server: keep-alive, identity, time limits, and answers that are no 2xx turned into faults. */
export class Transport {
  readonly connection: Connection
  readonly #credentials: Credentials
  readonly #clock: Clock
  #agent: { readonly of: TlsIdentity; readonly agent: http.Agent } | undefined

  constructor(connection: Connection, clock: Clock = SYSTEM_CLOCK) {
    this.connection = connection
    this.#clock = clock
    this.#credentials = new Credentials(connection, () => clock.now())
  }

  /**
   * Resolves with the open answer of status 2xx; whoever gets it reads or destroys it.
   * Tries again by itself only where the server cannot have acted: 401 once with a fresh identity, 429 after the time
   * it asks for, and GET on a kept connection that was closed meanwhile.
   */
  async send(request: RawRequest): Promise<http.IncomingMessage> {
    const identityTries = { left: 1 }
    for (let attempt = 1; ; attempt++) {
      request.signal?.throwIfAborted()
      const response = await this.#once(request)
      const code = response.statusCode ?? 0
      if (code >= 200 && code < 300) return response
      const status = await readStatus(response)
      if (code === 401 && identityTries.left-- > 0) {
        this.#credentials.invalidate()
        continue
      }
      if (code === 429 && attempt < MOST_TRIES) {
        const seconds = Math.min(Number(response.headers['retry-after'] ?? 1) || 1, 10)
        await this.#clock.sleep(seconds * 1000 * (0.75 + this.#clock.random() / 2), request.signal)
        continue
      }
      throw statusFault(request.action, code, status)
    }
  }

  /** Headers that carry identity, for WebSockets. */
  async headers(): Promise<Record<string, string | string[]>> {
    const { authorization } = await this.#credentials.identity()
    const headers: Record<string, string | string[]> = {}
    for (const [name, value] of Object.entries(this.connection.impersonate)) {
      headers[name] = typeof value === 'string' ? value : [...value]
    }
    if (authorization !== undefined) headers['Authorization'] = authorization
    return headers
  }

  async tls(): Promise<TlsIdentity> {
    const { cert, key } = await this.#credentials.identity()
    const { ca, tlsServerName, insecure } = this.connection
    return {
      ca: ca === undefined || insecure ? undefined : await readPem(ca),
      cert,
      key,
      servername: tlsServerName,
      rejectUnauthorized: !insecure,
    }
  }

  close(): void {
    this.#agent?.agent.destroy()
    this.#agent = undefined
  }

  async #once(request: RawRequest): Promise<http.IncomingMessage> {
    const agent = await this.#freshAgent()
    const headers = {
      Accept: 'application/json',
      'User-Agent': 'pellicle',
      ...(await this.headers()),
      ...request.headers,
      ...(request.body === undefined ? {} : { 'Content-Length': String(Buffer.byteLength(request.body)) }),
    }
    const { server } = this.connection
    const url = new URL(server.pathname.replace(/\/$/, '') + request.path, server)
    const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>()
    const call = server.protocol === 'https:' ? https.request : http.request
    const outgoing = call(url, { method: request.method, headers, agent, signal: request.signal })
    const limit = setTimeout(() => {
      const seconds = (request.timeoutMs ?? TIMEOUT_MS) / 1000
      outgoing.destroy(
        kubeFault('kube.timeout', `${request.action}: ${server.host} did not answer in ${seconds} s`, {
          remedy: 'Check that the API server runs and is not overloaded',
        }),
      )
    }, request.timeoutMs ?? TIMEOUT_MS)
    outgoing.on('response', resolve)
    outgoing.on('error', reject)
    outgoing.on('socket', (socket) => socket.setKeepAlive(true, 15_000))
    outgoing.end(request.body)
    try {
      return await promise
    } catch (error) {
      // the server closed a kept connection just as we took it
      if (outgoing.reusedSocket && request.method === 'GET' && isReset(error)) return await this.#once(request)
      throw networkFault(request.action, server.host, error)
    } finally {
      clearTimeout(limit)
    }
  }

  /** A new agent whenever a certificate changed: sockets of the old one end when their requests end. */
  async #freshAgent(): Promise<http.Agent> {
    const identity = await this.tls()
    if (this.#agent !== undefined && sameTls(this.#agent.of, identity)) return this.#agent.agent
    const options = { keepAlive: true, maxFreeSockets: 2, scheduling: 'lifo' as const }
    const agent =
      this.connection.server.protocol === 'https:'
        ? new https.Agent({ ...options, ...definedOnly(identity) })
        : new http.Agent(options)
    this.#agent = { of: identity, agent }
    return agent
  }
}

export function definedOnly(identity: TlsIdentity): https.AgentOptions {
  const { ca, cert, key, servername, rejectUnauthorized } = identity
  return {
    rejectUnauthorized,
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(servername === undefined ? {} : { servername }),
  }
}

function sameTls(a: TlsIdentity, b: TlsIdentity): boolean {
  return a.ca === b.ca && a.cert === b.cert && a.key === b.key
}

function isReset(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE')
}

/** The whole answer as text. */
export async function readBody(response: http.IncomingMessage, most = Number.POSITIVE_INFINITY): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > most) break
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

async function readStatus(response: http.IncomingMessage): Promise<Status | undefined> {
  try {
    const text = await readBody(response, MOST_ERROR_BYTES)
    const body: unknown = JSON.parse(text)
    return typeof body === 'object' && body !== null && 'kind' in body && body.kind === 'Status'
      ? (body as Status)
      : undefined
  } catch {
    return undefined
  }
}
