import { once } from 'node:events'
import type { Lab } from '#test/kit/lab.ts'
import type { Pod } from '#test/kit/probe/pods.ts'

const PORT = '5201'

/**
 * One TCP stream of iperf3 from pod to pod, in Gbit/s as received. Runs as root in the pods' network namespaces: a pod
 * may not choose cubic, and a machine-wide bbr without fq distorts every figure.
 */
export async function measureStream(
  lab: Lab,
  from: Pod,
  to: Pod,
  seconds: number,
  options: {
    streams?: number
    /** As iperf3 has it, such as `200M`; without it as fast as it can be. */
    limit?: string
  } = {},
): Promise<number> {
  const server = lab.start(to.node, 'ip', 'netns', 'exec', to.netns, 'iperf3', '-s', '-1', '-p', PORT, '--forceflush')
  const ended = once(server, 'close')
  await once(server.stdout as NodeJS.ReadableStream, 'data')
  const client = `ip netns exec ${from.netns} iperf3 -C cubic -J -t ${seconds} -P ${options.streams ?? 1} -b ${options.limit ?? 0} -p ${PORT} -c ${to.ip}`
  try {
    const report = JSON.parse(await lab.node(from.node, client, seconds + 90)) as IperfReport
    return report.end.sum_received.bits_per_second / 1e9
  } finally {
    server.kill('SIGTERM')
    await ended
  }
}

interface IperfReport {
  readonly end: { readonly sum_received: { readonly bits_per_second: number } }
}
