import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { SteeringCluster } from './cluster.ts'

const PORT = 7000

/**
 * Sends so many bytes by TCP from pod 1 to `target`, pod 2: how many packets of more than 50,000 bytes the pod handed over,
 * and how many of them `cilium_wg0` of node 1 got as they were.
 */
export async function superPackets(
  cluster: SteeringCluster,
  target: string,
  bytes: number,
): Promise<{ readonly sent: number; readonly whole: number }> {
  const large = new RegExp(
    `(?<= > ${target.replaceAll('.', '\\.')}\\.${PORT}: .*)seq \\d+:\\d+(?=.* length [56]\\d{4}$)`,
    'gm',
  )
  const packets = (lines: string) => new Set(lines.match(large))
  let device: ReadonlySet<string> = new Set()
  const onDevice = async () => {
    const seen = await cluster.watch('n1', 'cilium_wg0', async () => await pour(cluster, target, bytes), '-s128')
    device = packets(seen.lines)
  }
  const pod = await cluster.watch('p1', 'eth0', onDevice, '-s128')
  const sent = [...packets(pod.lines)]
  return { sent: sent.length, whole: sent.filter((range) => device.has(range)).length }
}

async function pour(cluster: SteeringCluster, target: string, bytes: number): Promise<void> {
  const python = (where: string, script: string) => {
    const args = ['netns', 'exec', cluster.path(where), 'timeout', '60', 'python3', '-c', script]
    return spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  }
  const server = python(
    'p2',
    `import socket
s = socket.create_server(("${target}", ${PORT})); print(flush=True); c = s.accept()[0]; n = 0
while d := c.recv(1 << 20): n += len(d)
c.sendall(str(n).encode())`,
  )
  const ended = once(server, 'close')
  try {
    await Promise.race([once(server.stdout, 'data'), ended])
    const client = python(
      'p1',
      `import socket
c = socket.create_connection(("${target}", ${PORT})); c.sendall(bytes(${bytes})); c.shutdown(socket.SHUT_WR)
print(c.recv(99).decode())`,
    )
    let said = ''
    client.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    await once(client, 'close')
    if (said.trim() !== String(bytes)) throw new Error(`of ${bytes} bytes these arrived: ${said}`)
  } finally {
    server.kill()
    await ended
  }
}
