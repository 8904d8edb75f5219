import { setTimeout as sleep } from 'node:timers/promises'
import type { Lab } from '#test/kit/lab.ts'
import type { Pod } from '#test/kit/probe/pods.ts'

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
export async function countFull(lab: Lab, pods: readonly Pod[]): Promise<() => Promise<FullQueues>> {
  const dropped = new Map<string, number>()
  let last = await read(lab, pods)
  const look = async () => {
    const now = await read(lab, pods)
    for (const [name, count] of now) {
      const more = Math.max(0, count - (last.get(name) ?? 0))
      if (more > 0) dropped.set(name, (dropped.get(name) ?? 0) + more)
    }
    last = now
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

async function read(lab: Lab, pods: readonly Pod[]): Promise<ReadonlyMap<string, number>> {
  const ofNodes = [...new Set(pods.map(({ node }) => node))].map(async (node) => {
    const here = pods.filter((pod) => pod.node === node).map(({ netns }) => netns)
    const udp = ['', ...here].map(
      (netns) =>
        `${netns === '' ? '' : `ip netns exec ${netns} `}cat /proc/net/snmp | awk '$1=="Udp:" && $2 ~ /[0-9]/ {print "udp-${netns}", $6+$7}'`,
    )
    const raw = `awk 'FNR>1 {s+=$NF} END {print "raw", s+0}' /proc/net/raw /proc/net/raw6`
    const tun = `for d in cilium_wg0 pellicle_ipsec; do f=/sys/class/net/$d/statistics/tx_dropped; [ -e $f ] && echo $d $(cat $f); done; true`
    const lines = (await lab.node(node, [...udp, raw, tun].join('; '))).trim().split('\n')
    return lines.map((line): [string, number] => {
      const [name, count] = line.split(' ')
      return [`${node} ${name}`, Number(count)]
    })
  })
  // the machine's processors, once: second column of each line, hexadecimal
  const backlog = (await lab.sh('cut -d" " -f2 /proc/net/softnet_stat')).trim().split('\n')
  const ofMachine = backlog.map((hex, i): [string, number] => [`processor ${i}`, Number.parseInt(hex, 16)])
  return new Map([...(await Promise.all(ofNodes)).flat(), ...ofMachine])
}
