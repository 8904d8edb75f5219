import { chmod, mkdir } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { describeFault } from '#core/fault/fault.ts'
import { removeFile } from '#io/store/file.ts'
import type { Log } from '#io/telemetry/log.ts'
import { type CniAnswer, CniError, errorAnswer } from './error.ts'
import type { Pods } from './pods.ts'
import { parseCniRequest } from './request.ts'

/** A network configuration of containerd is a few hundred bytes; nobody sends a megabyte in good faith. */
const MAX_REQUEST = 1024 * 1024

/**
 * The socket that the CNI executable forwards to: one JSON line in, one out
 * (`{"exitCode": 0, "output": {…}}`; output null: nothing is printed), then the connection ends.
 */
export class CniServer {
  readonly #pods: Pods
  readonly #log: Log
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  constructor(pods: Pods, log: Log) {
    this.#pods = pods
    this.#log = log
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#serve(socket))
  }

  async listen(path: string): Promise<void> {
    await mkdir(dirname(path), { recursive: true })
    // a killed agent leaves its socket behind
    await removeFile(path)
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(path, resolve)
    })
    await chmod(path, 0o600)
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket)
    let text = ''
    let answered = false
    const answer = (value: CniAnswer): void => {
      answered = true
      if (!socket.destroyed) socket.end(`${JSON.stringify(value)}\n`)
    }
    socket.setEncoding('utf8')
    // whoever connects and says nothing is not waited for
    socket.setTimeout(10_000, () => socket.destroy())
    socket.on('close', () => this.#sockets.delete(socket))
    socket.on('error', (error) => this.#log.debug('cni connection ended', { error: error.message }))
    socket.on('data', (chunk: string) => {
      if (answered) return
      text += chunk
      const end = text.indexOf('\n')
      if (end < 0 && text.length > MAX_REQUEST) answer(errorAnswer(new CniError(6, 'the request is too long'), '1.0.0'))
      if (end < 0) return
      answered = true
      socket.setTimeout(0)
      void this.answer(text.slice(0, end)).then(answer)
    })
    socket.on('end', () => {
      if (!answered) answer(errorAnswer(new CniError(6, 'the request has no end'), '1.0.0'))
    })
  }

  /** Never rejects: every failure is an answer. */
  async answer(line: string): Promise<CniAnswer> {
    let version = versionOf(line)
    let command = ''
    try {
      const request = parseCniRequest(line)
      version = request.config.cniVersion
      command = request.command
      return { exitCode: 0, output: await this.#pods.handle(request) }
    } catch (error) {
      this.#log.warn(`cni ${command} failed: ${describeFault(error)}`)
      return errorAnswer(error, version)
    }
  }
}

/** Errors are told in the caller's version, also when the rest of the request is wrong. */
function versionOf(line: string): string {
  const match = /"cniVersion\\?"\s*:\s*\\?"([0-9.]{1,16})\\?"/.exec(line)
  return match?.[1] ?? '1.0.0'
}
