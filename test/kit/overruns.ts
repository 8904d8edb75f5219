import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Lab } from '#test/kit/lab.ts'
import type { ProbePlace } from '#test/kit/probe/pods.ts'

/**
 * What kernels' queues dropped so far because a process had no processor for too long: datagrams that did not fit into a
 * socket's buffer (UDP, or raw for ESP), frames that did not fit into a TUN queue or a processor's backlog. On a machine that does other
 * things at the same time a strict probe loses these whatever we do; a loss beyond them is ours.
 *
 * Datagrams for a port that nobody has are counted elsewhere (NoPorts), and what routes and tables refuse as well, so an
 * outage of ours does not hide here.
 */
export interface FullQueues {
  readonly dropped: number
  /** Which queues, and how much each. */
  readonly where: string
}

/**
 * Counts until the returned function is called, and looks every second: a device that goes takes its count along, and so
 * does a socket.
 */
export async function countFull(lab: Lab, pods: readonly ProbePlace[]): Promise<() => Promise<FullQueues>> {
  const dropped = new Map<string, number>()
  const networks = await enter(lab, pods)
  let last = read(networks)
  const look = () => {
    const now = read(networks)
    for (const [name, count] of now) {
      const more = Math.max(0, count - (last.get(name) ?? 0))
      if (more > 0) dropped.set(name, (dropped.get(name) ?? 0) + more)
    }
    last = new Map([...last, ...now])
  }
  const ended = new AbortController()
  const counting = (async () => {
    while (!ended.signal.aborted) {
      await sleep(1000, undefined, { signal: ended.signal }).catch(() => undefined)
      look()
    }
  })()
  return async () => {
    ended.abort()
    await counting
    await Promise.all(networks.map(leave))
    return {
      dropped: [...dropped.values()].reduce((sum, count) => sum + count, 0),
      where: [...dropped].map(([name, count]) => `${name} ${count}`).join(', '),
    }
  }
}

/** A network, seen by a process that only waits in it: its /proc/PID/net is that network's. */
interface Network {
  readonly name: string
  readonly waiting: ChildProcess
  readonly count: (pid: number) => readonly (readonly [queue: string, count: number])[]
}

async function enter(lab: Lab, pods: readonly ProbePlace[]): Promise<readonly Network[]> {
  const nodes = [...new Set(pods.map(({ node }) => node))]
  const places = [
    ...nodes.map((node) => ({ name: node, at: { node }, count: ofNode })),
    ...pods
      .filter(({ netns }) => netns !== undefined)
      .map((pod) => ({ name: `${pod.node} ${pod.netns}`, at: pod, count: datagrams })),
  ]
  return await Promise.all(
    places.map(async ({ name, at, count }) => {
      const waiting = lab.startAt(at, 'sh', '-c', 'echo entered; exec cat')
      await once(waiting.stdout as Readable, 'data')
      return { name, waiting, count }
    }),
  )
}

async function leave({ waiting }: Network): Promise<void> {
  const closed = once(waiting, 'close')
  waiting.stdin?.end()
  await closed
}

function read(networks: readonly Network[]): ReadonlyMap<string, number> {
  const counts = networks.flatMap(({ name, waiting, count }) =>
    count(waiting.pid as number).map(([queue, dropped]): [string, number] => [`${name} ${queue}`, dropped]),
  )
  // the machine's processors, once: second column of each line, hexadecimal
  const backlog = rows('/proc/net/softnet_stat').map(([, dropped = ''], i): [string, number] => [
    `processor ${i}`,
    Number.parseInt(dropped, 16),
  ])
  return new Map([...counts, ...backlog])
}

function ofNode(pid: number): readonly (readonly [string, number])[] {
  const raw = ['raw', 'raw6'].flatMap((file) => rows(`/proc/${pid}/net/${file}`).slice(1))
  // a device that is not there has no line
  const tunnels = rows(`/proc/${pid}/net/dev`).filter(([name]) => name === 'cilium_wg0:' || name === 'pellicle_ipsec:')
  return [
    ...datagrams(pid),
    ['raw', raw.reduce((sum, row) => sum + Number(row.at(-1)), 0)],
    // after the name eight columns of what came in: its fourth of what went out is dropped
    ...tunnels.map(([name = '', ...columns]) => [name.slice(0, -1), Number(columns[11])] as const),
  ]
}

function datagrams(pid: number): readonly (readonly [string, number])[] {
  const [names = [], values = []] = rows(`/proc/${pid}/net/snmp`).filter(([protocol]) => protocol === 'Udp:')
  const value = (name: string) => Number(values[names.indexOf(name)])
  const six = rows(`/proc/${pid}/net/snmp6`).filter(([name]) => name === 'Udp6RcvbufErrors')
  return [
    ['udp', value('RcvbufErrors') + value('SndbufErrors')],
    ...six.map(([, count]) => ['udp6', Number(count)] as const),
  ]
}

function rows(file: string): readonly (readonly string[])[] {
  const lines = readFileSync(file, 'utf8').trim().split('\n')
  return lines.map((line) => line.trim().split(/\s+/))
}
