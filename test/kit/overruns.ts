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
export async function overruns(lab: Lab, pods: readonly Pod[]): Promise<number> {
  const counts = await Promise.all(
    [...new Set(pods.map(({ node }) => node))].map(async (node) => {
      const here = pods.filter((pod) => pod.node === node).map(({ netns }) => `ip netns exec ${netns} `)
      const udp = ['', ...here].map(
        (prefix) => `${prefix}cat /proc/net/snmp | awk '$1=="Udp:" && $2 ~ /[0-9]/ {print $6+$7}'`,
      )
      const tun = 'cat /sys/class/net/{cilium_wg0,pellicle_ipsec}/statistics/tx_dropped 2>/dev/null'
      const raw = `awk 'FNR>1 {s+=$NF} END {print s+0}' /proc/net/raw /proc/net/raw6`
      return sum(await lab.node(node, [...udp, tun, raw].join('; ')))
    }),
  )
  // the machine's processors, once: second column of each line, hexadecimal
  const backlog = (await lab.sh('cut -d" " -f2 /proc/net/softnet_stat')).trim().split('\n')
  return counts.reduce((a, b) => a + b, 0) + backlog.reduce((total, hex) => total + Number.parseInt(hex, 16), 0)
}

function sum(lines: string): number {
  return lines
    .trim()
    .split('\n')
    .reduce((total, line) => total + Number(line), 0)
}
