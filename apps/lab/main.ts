import { connect, createServer } from 'node:net'

// The lab's port on the machine's loopback: HOST PORT are dialled from the network namespace that this process was started in,
// descriptor 3 is a socket that listens in the machine's. So no route leads from the machine into the lab or back.
const [host, port] = process.argv.slice(2)
if (host === undefined || port === undefined)
  throw new TypeError('usage: main.ts HOST PORT, a listening socket as descriptor 3')

createServer({ allowHalfOpen: true }, (client) => {
  const server = connect({ host, port: Number(port), allowHalfOpen: true })
  client.on('error', () => server.destroy())
  server.on('error', () => client.destroy())
  client.on('close', () => server.destroy())
  server.on('close', () => client.destroy())
  client.pipe(server).pipe(client)
}).listen({ fd: 3 })
