import { once } from 'node:events'
import type { Ends } from './ends.ts'
import { percentile } from './statistics.ts'

// What goes through a path from end a to end b: iperf3 with cubic (a machine-wide bbr without fq distorts every figure)
// and ping.

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

/** Round trips in µs. */
export interface RoundTrips {
  readonly p50: number
  readonly p99: number
}

export async function tcp(ends: Ends, seconds: number, streams: number): Promise<Stream> {
  const sum = (await iperf(ends, ['-C', 'cubic', '-t', `${seconds}`, '-P', `${streams}`])).end.sum_received
  return { gigabits: (sum?.bits_per_second ?? Number.NaN) / 1e9, bytes: sum?.bytes ?? Number.NaN }
}

/** 64 bytes of payload, as fast as one sender can. */
export async function udp(ends: Ends, seconds: number): Promise<Datagrams> {
  const { sum } = (await iperf(ends, ['-u', '-l', '64', '-b', '0', '-t', `${seconds}`])).end
  if (sum === undefined) return { received: Number.NaN, lost: Number.NaN }
  return { received: (sum.packets - sum.lost_packets) / sum.seconds / 1000, lost: sum.lost_percent }
}

/** One every 2 ms, whether or not the one before has come back. */
export async function ping(ends: Ends, count: number): Promise<RoundTrips> {
  const text = await ends.run('a', 'ping', '-n', '-c', `${count}`, '-i', '0.002', ends.to)
  const times = [...text.matchAll(/time=([\d.]+) ms/g)].map(([, time]) => Number(time) * 1000).sort((x, y) => x - y)
  return { p50: percentile(times, 0.5), p99: percentile(times, 0.99) }
}

/** The same beside one TCP stream as fast as it goes. */
export async function pingUnderLoad(ends: Ends, count: number): Promise<RoundTrips> {
  const { server, ended } = await listen(ends)
  // longer than the pings take; ended with them
  const client = ends.start('a', 'iperf3', ['-c', ends.to, '-C', 'cubic', '-t', '60', '--forceflush'])
  const closed = once(client, 'close')
  try {
    await said(client.stdout, /connected to/)
    return await ping(ends, count)
  } finally {
    client.kill('SIGTERM')
    await closed
    server.kill('SIGTERM')
    await ended
  }
}

async function iperf(ends: Ends, flags: readonly string[]): Promise<Report> {
  const { server, ended } = await listen(ends)
  try {
    return JSON.parse(await ends.run('a', 'iperf3', '-J', '-c', ends.to, ...flags)) as Report
  } finally {
    server.kill('SIGTERM')
    await ended
  }
}

async function listen(ends: Ends) {
  const server = ends.start('b', 'iperf3', ['-s', '-1', '--forceflush'])
  const ended = once(server, 'close')
  await said(server.stdout, /listening/)
  return { server, ended }
}

/** All that a program has said up to `what`; rejects when it ends without. */
export async function said(stream: NodeJS.ReadableStream | null, what: RegExp): Promise<string> {
  let text = ''
  await new Promise<void>((resolve, reject) => {
    stream?.on('data', (chunk: Buffer | string) => {
      text += chunk.toString()
      if (what.test(text)) resolve()
    })
    stream?.on('end', () => reject(new Error(`ended early: ${text}`)))
  })
  return text
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
