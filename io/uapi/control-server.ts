import { mkdir, unlink } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { Fault } from '#core/fault/fault.ts'
import { OperationSplitter } from '#core/uapi/splitter.ts'

/** A whole operation in, the whole answer out; it does not reject. */
export type ControlHandler = (operation: string) => Promise<string>

/**
 * The WireGuard control socket, `/var/run/wireguard/<device>.sock`: a connection may carry several operations, one after
 * the other. Only root can connect (0600).
 */
export class ControlServer {
  readonly #socket: string | number
  readonly #handler: ControlHandler
  readonly #sockets = new Set<Socket>()
  #server: Server | undefined

  /** `socket`: the path to listen at, or the descriptor of a socket that listens already. */
  constructor(socket: string | number, handler: ControlHandler) {
    this.#socket = socket
    this.#handler = handler
  }

  /** Takes the place of a socket that a killed process left. Rejects with Fault `uapi.listen`. */
  async listen(): Promise<void> {
    const given = this.#socket
    const where = typeof given === 'string' ? { path: given } : { fd: given }
    if (typeof given === 'string') {
      await mkdir(dirname(given), { recursive: true })
      await unlink(given).catch(() => undefined)
    }
    const server = createServer((socket) => this.#serve(socket))
    this.#server = server
    // the mode must be right from the first moment
    const umask = process.umask(0o177)
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen(where, resolve)
      })
    } catch (error) {
      throw new Fault('uapi.listen', `cannot listen on ${given}`, { field: `${given}`, cause: error })
    } finally {
      process.umask(umask)
    }
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    const server = this.#server
    if (server !== undefined) await new Promise<void>((resolve) => server.close(() => resolve()))
  }

  #serve(socket: Socket): void {
    const splitter = new OperationSplitter()
    let queue: Promise<void> = Promise.resolve()
    this.#sockets.add(socket)
    socket.setEncoding('utf8')
    socket.on('data', (chunk: string) => {
      try {
        for (const operation of splitter.push(chunk)) {
          queue = queue.then(async () => {
            const answer = await this.#handler(operation)
            if (!socket.destroyed) socket.write(answer)
          })
        }
      } catch {
        socket.end('errno=-22\n\n')
      }
    })
    socket.on('error', () => undefined)
    socket.on('end', () => void queue.then(() => socket.end()))
    socket.on('close', () => this.#sockets.delete(socket))
  }
}
