import { chmod, mkdir } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { dirname } from 'node:path'
import { describeFault, Fault } from '#core/fault/fault.ts'
import { removeFile } from '#io/store/file.ts'
import type { Log } from '#io/telemetry/log.ts'

/** One thing that can be asked: `GET /v1/healthz`, with what follows `?`. The answer is JSON, or text with its type. */
export type Routes = Readonly<
  Record<`${'GET' | 'POST'} /${string}`, (query: URLSearchParams) => Promise<object | TextAnswer>>
>

export class TextAnswer {
  readonly contentType: string
  readonly text: string
  readonly status: number
  constructor(text: string, contentType = 'text/plain; charset=utf-8', status = 200) {
    this.text = text
    this.contentType = contentType
    this.status = status
  }
}

/**
 * A few fixed questions over HTTP: on a Unix socket (only root may connect), or on a TCP port of the loopback or the
 * node. No bodies: one that comes all the same is thrown away.
 */
export class ApiServer {
  readonly #server: Server
  readonly #routes: Routes
  readonly #log: Log

  constructor(routes: Routes, log: Log) {
    this.#routes = routes
    this.#log = log
    this.#server = createServer((request, response) => void this.#serve(request, response))
    this.#server.requestTimeout = 10_000
    this.#server.maxRequestsPerSocket = 100
  }

  async listenUnix(path: string): Promise<void> {
    await mkdir(dirname(path), { recursive: true })
    await removeFile(path)
    await this.#listen((done) => this.#server.listen(path, done))
    await chmod(path, 0o600)
  }

  /** Rejects with Fault `port.taken` when somebody else has it. */
  /** An empty host is every address of the node. Resolves to the port. */
  async listenTcp(host: string, port: number): Promise<number> {
    try {
      await this.#listen((done) => this.#server.listen({ port, ...(host === '' ? {} : { host }) }, done))
    } catch (error) {
      throw new Fault('port.taken', `cannot listen on ${host || '*'}:${port}`, {
        field: `${host || '*'}:${port}`,
        remedy: `Find out who has it (ss -ltnp sport = :${port}); an agent of another installation must be removed first.`,
        cause: error,
      })
    }
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? address.port : port
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.#server.closeAllConnections()
    await closed
  }

  async #listen(begin: (done: () => void) => void): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      begin(() => {
        this.#server.off('error', reject)
        resolve()
      })
    })
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.resume()
    const [path, query] = (request.url ?? '').split('?', 2)
    const method = request.method === 'HEAD' ? 'GET' : request.method
    const key = `${method} ${path}`
    const route = Object.hasOwn(this.#routes, key) ? this.#routes[key as keyof Routes] : undefined
    try {
      if (route === undefined) return send(response, new TextAnswer(`no such thing: ${key}\n`, undefined, 404))
      const answer = await route(new URLSearchParams(query))
      send(response, answer instanceof TextAnswer ? answer : json(answer, 200))
    } catch (error) {
      this.#log.warn(`${key} failed: ${describeFault(error)}`)
      const remedy = error instanceof Fault ? error.remedy : undefined
      const message = error instanceof Error ? error.message : String(error)
      send(response, json({ message, ...(remedy === undefined ? {} : { remedy }) }, 500))
    }
  }
}

function json(value: object, status: number): TextAnswer {
  return new TextAnswer(`${JSON.stringify(value)}\n`, 'application/json', status)
}

function send(response: ServerResponse, answer: TextAnswer): void {
  if (response.destroyed) return
  response.writeHead(answer.status, {
    'Content-Type': answer.contentType,
    'Content-Length': Buffer.byteLength(answer.text),
  })
  response.end(answer.text)
}
