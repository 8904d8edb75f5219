import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Fault } from '#core/fault/fault.ts'
import { type Hierarchies, makeGroup } from './cgroups.ts'
import type { LabLayout } from './layout.ts'
import { ENTER } from './node/node.ts'
import { startDetached } from './process/run.ts'
import { UNDERLAY_GROUP } from './underlay/underlay.ts'

/** Offers the API server on a port of the machine's loopback (a free one, if `wanted` is 0); gives the port. */
export async function startPort(
  layout: LabLayout,
  hierarchies: Hierarchies,
  underlayPid: number,
  logs: string,
  wanted: number,
): Promise<number> {
  const server = createServer()
  const port = await listen(server, wanted)
  const groups = makeGroup(hierarchies, layout.name, UNDERLAY_GROUP)
  const main = fileURLToPath(new URL('main.ts', import.meta.url))
  const target = [layout.nodeList[0]?.addresses[0] ?? '', '6443']
  const command = ['nsenter', `--net=/proc/${underlayPid}/ns/net`, process.execPath, main, ...target]
  startDetached('sh', ['-c', ENTER, 'sh', String(groups.length), ...groups, ...command], join(logs, 'port.log'), {
    descriptors: [descriptorOf(server)],
  })
  await new Promise<void>((resolve) => server.close(() => resolve())) // the child has its own copy
  return port
}

async function listen(server: Server, port: number): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      reject(new Fault('lab.port', `port ${port} of the loopback cannot be used`, { cause, field: 'port' }))
    })
    server.listen(port, '127.0.0.1', () => resolve())
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new TypeError('a TCP server has an address')
  return address.port
}

/** Node hands a listening socket to Node children only; any child can have its descriptor. */
function descriptorOf(server: Server): number {
  const { _handle } = server as unknown as { _handle?: { fd?: number } }
  const fd = _handle?.fd
  if (fd === undefined || fd < 0) throw new TypeError('a listening server has a descriptor')
  return fd
}
