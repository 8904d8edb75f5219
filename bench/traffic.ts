import { once } from 'node:events'
import type { TunnelLab } from '#test/kit/tunnel-lab.ts'
import { percentile } from './statistics.ts'

// What goes through a path from side a to side b of a lab: iperf3 with cubic (a machine-wide bbr without fq distorts
// every figure) and ping.

export interface Stream {
  /** Gbit/s as received. */
  readonly gigabits: number
  readonly bytes: number
}

export interface Datagrams {
  /** Thousands received per second. */
  readonly received: number
  /** Per cent of what was sent. */
  readonly lost: number
}

export async function tcp(lab: TunnelLab, to: string, seconds: number, streams: number): Promise<Stream> {
  const sum = (await iperf(lab, to, ['-C', 'cubic', '-t', `${seconds}`, '-P', `${streams}`])).end.sum_received
  return { gigabits: (sum?.bits_per_second ?? Number.NaN) / 1e9, bytes: sum?.bytes ?? Number.NaN }
}

/** 64 bytes of payload, as fast as one sender can. */
export async function udp(lab: TunnelLab, to: string, seconds: number): Promise<Datagrams> {
  const { sum } = (await iperf(lab, to, ['-u', '-l', '64', '-b', '0', '-t', `${seconds}`])).end
  if (sum === undefined) return { received: Number.NaN, lost: Number.NaN }
  return { received: (sum.packets - sum.lost_packets) / sum.seconds / 1000, lost: sum.lost_percent }
}

/** Round trips in µs, ascending, one every 2 ms. */
export async function ping(lab: TunnelLab, to: string, count: number): Promise<{ p50: number; p99: number }> {
  const text = await lab.run(lab.a, 'ping', '-n', '-c', `${count}`, '-i', '0.002', to)
  const times = [...text.matchAll(/time=([\d.]+) ms/g)].map(([, time]) => Number(time) * 1000).sort((x, y) => x - y)
  return { p50: percentile(times, 0.5), p99: percentile(times, 0.99) }
}

async function iperf(lab: TunnelLab, to: string, flags: readonly string[]): Promise<Report> {
  const server = lab.start(lab.b, 'iperf3', ['-s', '-1', '--forceflush'])
  const ended = once(server, 'close')
  await once(server.stdout as NodeJS.ReadableStream, 'data')
  try {
    return JSON.parse(await lab.run(lab.a, 'iperf3', '-J', '-c', to, ...flags)) as Report
  } finally {
    server.kill('SIGTERM')
    await ended
  }
}

interface Report {
  readonly end: {
    readonly sum_received?: { readonly bits_per_second: number; readonly bytes: number }
    readonly sum?: {
      readonly packets: number
      readonly lost_packets: number
      readonly lost_percent: number
      readonly seconds: number
    }
  }
}
