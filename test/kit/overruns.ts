import type { Lab } from '#test/kit/lab.ts'
import type { Pod } from '#test/kit/probe/pods.ts'
import { settle } from '#test/kit/processes.ts'

/**
 * What kernels' queues dropped so far because a process had no processor for too long: datagrams that did not fit into a
 * socket's buffer (UDP, or raw for ESP), frames that did not fit into a TUN queue or a processor's backlog. On a machine that does other
 * things at the same time a strict probe loses these whatever we do; a loss beyond them is ours.
 *
 * Datagrams for a port that nobody has are counted elsewhere (NoPorts), and what routes and tables refuse as well, so an
 * outage of ours does not hide here.
 */
export class Overruns {
  readonly #lab: Lab
  readonly #pods: readonly Pod[]
  #last: ReadonlyMap<string, number>
  /** Which queues those of the last answer were. */
  where = ''

  private constructor(lab: Lab, pods: readonly Pod[], counts: ReadonlyMap<string, number>) {
    this.#lab = lab
    this.#pods = pods
    this.#last = counts
  }

  static async begin(lab: Lab, pods: readonly Pod[]): Promise<Overruns> {
    return new Overruns(lab, pods, await read(lab, pods))
  }

  /** How many more there are than when this was asked last. A device that has gone takes its count along. */
  async more(): Promise<number> {
    const now = await read(this.#lab, this.#pods)
    const grown = [...now].map(([name, count]) => ({ name, count: Math.max(0, count - (this.#last.get(name) ?? 0)) }))
    this.#last = now
    this.where = grown
      .filter(({ count }) => count > 0)
      .map(({ name, count }) => `${name} ${count}`)
      .join(', ')
    return grown.reduce((total, { count }) => total + count, 0)
  }
}

/** Looks every second until it is asked: a device that goes takes its count along, and so does a socket. */
export async function countFull(lab: Lab, pods: readonly Pod[]): Promise<() => Promise<number>> {
  const queues = await Overruns.begin(lab, pods)
  const ended = new AbortController()
  const counting = (async () => {
    let full = 0
    while (!ended.signal.aborted) {
      await settle(1)
      full += await queues.more()
    }
    return full
  })()
  return async () => {
    ended.abort()
    return await counting
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
