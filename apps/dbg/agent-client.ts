import { request } from 'node:http'
import { Fault } from '#core/fault/fault.ts'
import type { AgentClient } from './context.ts'

export const AGENT_SOCKET = '/var/run/cilium/cilium.sock'

/** Talks HTTP to the agent's Unix socket. */
export class SocketAgentClient implements AgentClient {
  readonly #socketPath: string
  readonly #timeout: number

  constructor(socketPath: string, timeout = 30_000) {
    this.#socketPath = socketPath
    this.#timeout = timeout
  }

  get(path: string): Promise<unknown> {
    return this.#ask('GET', path)
  }

  post(path: string): Promise<unknown> {
    return this.#ask('POST', path)
  }

  async #ask(method: string, path: string): Promise<unknown> {
    const { status, text } = await new Promise<{ status: number; text: string }>((resolve, reject) => {
      const asked = request({ socketPath: this.#socketPath, method, path, timeout: this.#timeout }, (response) => {
        let body = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          body += chunk
        })
        response.on('error', reject)
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text: body }))
      })
      asked.on('timeout', () => asked.destroy(new Error(`no answer within ${this.#timeout / 1000} s`)))
      asked.on('error', reject)
      asked.end()
    }).catch((error: unknown) => {
      throw this.#away(error)
    })
    const value = parse(text)
    if (status === 200) return value
    const { message, remedy } = (value ?? {}) as { message?: string; remedy?: string }
    const sentence = message ?? `the agent answered ${status}: ${text.trim()}`
    throw new Fault('agent.refused', sentence, remedy === undefined ? {} : { remedy })
  }

  #away(error: unknown): Fault {
    return new Fault('agent.away', `the agent of this node does not answer at ${this.#socketPath}`, {
      field: this.#socketPath,
      remedy: 'Is it still starting? kubectl -n kube-system logs ds/cilium -c cilium-agent says what it waits for.',
      cause: error,
    })
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
