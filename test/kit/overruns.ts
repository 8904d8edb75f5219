import { readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
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
  let last = await read(lab, pods)
  const look = async () => {
    const now = await read(lab, pods)
    for (const [name, count] of now) {
      const more = Math.max(0, count - (last.get(name) ?? 0))
      if (more > 0) dropped.set(name, (dropped.get(name) ?? 0) + more)
    }
    // a place that did not answer this time has not begun anew
    last = new Map([...last, ...now])
  }
  const ended = new AbortController()
  const counting = (async () => {
    while (!ended.signal.aborted) {
      await sleep(1000, undefined, { signal: ended.signal }).catch(() => undefined)
      await look()
    }
  })()
  return async () => {
    ended.abort()
    await counting
    return {
      dropped: [...dropped.values()].reduce((sum, count) => sum + count, 0),
      where: [...dropped].map(([name, count]) => `${name} ${count}`).join(', '),
    }
  }
}

// of a network namespace, from its own /proc: `name count` a line. A device that is not there has no line.
const UDP = `awk '$1=="Udp:" && $2 ~ /[0-9]/ {print "udp", $6+$7}' /proc/net/snmp; awk '$1=="Udp6RcvbufErrors" {print "udp6", $2}' /proc/net/snmp6`
const RAW = `awk 'FNR>1 {s+=$NF} END {print "raw", s+0}' /proc/net/raw /proc/net/raw6`
const TUN = `awk '{sub(/:/, " ")} $1 ~ /^(cilium_wg0|pellicle_ipsec)$/ {print $1, $13}' /proc/net/dev`

async function read(lab: Lab, pods: readonly ProbePlace[]): Promise<ReadonlyMap<string, number>> {
  const nodes = [...new Set(pods.map(({ node }) => node))]
  const places = [
    ...nodes.map((node) => ({ name: node, at: { node }, script: [UDP, RAW, TUN].join('; ') })),
    ...pods
      .filter(({ netns }) => netns !== undefined)
      .map((pod) => ({ name: `${pod.node} ${pod.netns}`, at: pod, script: UDP })),
  ]
  const counts = places.map(async ({ name, at, script }) => {
    const lines = (await text(lab.startAt(at, 'sh', '-c', script).stdout as Readable)).trim().split('\n')
    return lines.map((line): [string, number] => {
      const [queue, count] = line.split(' ')
      return [`${name} ${queue}`, Number(count)]
    })
  })
  // the machine's processors, once: second column of each line, hexadecimal
  const backlog = readFileSync('/proc/net/softnet_stat', 'utf8').trim().split('\n')
  const ofMachine = backlog.map((line, i): [string, number] => [
    `processor ${i}`,
    Number.parseInt(line.split(' ')[1] ?? '', 16),
  ])
  return new Map([...(await Promise.all(counts)).flat(), ...ofMachine])
}
