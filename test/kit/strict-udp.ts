import { type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Lab } from '#test/kit/lab.ts'
import type { Pod } from '#test/kit/probe/pods.ts'

export interface StrictUdpResult {
  readonly sent: number
  readonly lost: number
}

const FIRST_PORT = 5300

/**
 * 1,000 small packets a second from every pod to every other, each direction by itself: iperf3, whose timer keeps the
 * schedule and whose receiver counts what does not come, at a tenth of what our own probe costs. Resolves when all are
 * under way; `results` when `seconds` have passed.
 */
export async function strictUdp(
  lab: Lab,
  pods: readonly Pod[],
  seconds: number,
): Promise<{ readonly results: Promise<readonly StrictUdpResult[]> }> {
  const pairs = pods.flatMap((from) => pods.filter((to) => to !== from).map((to) => ({ from, to })))
  const servers = await Promise.all(
    pairs.map(async ({ to }, i) => {
      const server = lab.startAt(to, 'iperf3', '-s', '-1', '-p', `${FIRST_PORT + i}`, '--forceflush')
      await once(server.stdout as NodeJS.ReadableStream, 'data')
      return server
    }),
  )
  const flows = pairs.map(({ from, to }, i) => {
    // 64 bytes, 1,000 times a second, one at each tick
    const load = ['-u', '-l', '64', '-b', '512K', '--pacing-timer', '1000']
    return lab.startAt(from, 'iperf3', '-J', '-c', to.ip, '-p', `${FIRST_PORT + i}`, '-t', `${seconds}`, ...load)
  })
  const results = Promise.all(flows.map(outputOf)).finally(() => {
    for (const server of servers) server.kill('SIGTERM')
  })
  return { results }
}

async function outputOf(flow: ChildProcess): Promise<StrictUdpResult> {
  let text = ''
  flow.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  await once(flow, 'close')
  const report = JSON.parse(text) as { error?: string; end?: { sum?: { packets: number; lost_packets: number } } }
  const sum = report.end?.sum
  if (report.error !== undefined || sum === undefined) throw new Error(`iperf3: ${report.error ?? text}`)
  return { sent: sum.packets, lost: sum.lost_packets }
}
