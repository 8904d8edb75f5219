import { once } from 'node:events'
import { createServer } from 'node:http'
import { Fault } from '#core/fault/fault.ts'
import type { OperatorMetrics } from './metrics.ts'

export interface HealthServer {
  /** HOST:PORT, with the port that was really taken. */
  readonly address: string
  close(): Promise<void>
}

/**
 * `/healthz` (and `/readyz`): 200 while the program works. An API server that is away is no reason to restart us, so it
 * changes only the text. `/metrics`: Prometheus text.
 * @param address `127.0.0.1:9234`
 */
export async function serveHealth(
  address: string,
  metrics: OperatorMetrics,
  state: () => string,
): Promise<HealthServer> {
  const [host, port] = splitAddress(address)
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://x')
    if (request.method !== 'GET' && request.method !== 'HEAD') response.writeHead(405).end()
    else if (pathname === '/healthz' || pathname === '/readyz') {
      response.writeHead(200, { 'Content-Type': 'text/plain' }).end(`${state()}\n`)
    } else if (pathname === '/metrics') {
      metrics.registry.metrics().then(
        (text) => response.writeHead(200, { 'Content-Type': metrics.registry.contentType }).end(text),
        () => response.writeHead(500).end(),
      )
    } else response.writeHead(404).end()
  })
  server.listen(port, host)
  try {
    await once(server, 'listening')
  } catch (error) {
    throw new Fault('operator.health-address', `cannot listen on ${address}`, {
      field: '--health-address',
      remedy: 'Another operator may run on this machine; give another address',
      cause: error,
    })
  }
  const taken = server.address() as { port: number }
  return {
    address: `${host}:${taken.port}`,
    close: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

function splitAddress(address: string): [string, number] {
  const match = /^(.*):(\d{1,5})$/.exec(address)
  const port = Number(match?.[2])
  if (match === null || port > 65535) {
    throw new Fault('operator.health-address', `"${address}" is no HOST:PORT`, { field: '--health-address' })
  }
  return [(match[1] as string).replace(/^\[(.*)\]$/, '$1'), port]
}
