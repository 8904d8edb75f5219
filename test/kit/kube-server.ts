import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { TestContext } from 'node:test'
import { KubeClient } from '#io/kube/client.ts'
import type { Clock } from '#io/kube/clock.ts'
import { Transport } from '#io/kube/transport.ts'

/** Something on loopback that answers as an API server might, and a client of it; closed with the test. */
export async function serveKube(
  t: TestContext,
  clock: Clock,
  listener: RequestListener,
): Promise<{ readonly client: KubeClient; readonly server: Server; readonly port: number }> {
  const server = createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as { port: number }
  const transport = new Transport(
    {
      server: new URL(`http://127.0.0.1:${port}`),
      namespace: 'default',
      ca: undefined,
      tlsServerName: undefined,
      insecure: false,
      certificate: undefined,
      credential: { kind: 'token', token: 'tok' },
      impersonate: {},
    },
    clock,
  )
  return { client: new KubeClient(transport, clock), server, port }
}
