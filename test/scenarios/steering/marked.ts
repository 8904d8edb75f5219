import type { SteeringCluster } from './cluster.ts'

/** What a capture would show while there are streams, counted: it ends, and takes little of the machine's time. */
export class Marked {
  readonly #cluster: SteeringCluster
  readonly #name: string
  /** For a stream: its payload from the time on, in what leaves as it is. */
  readonly pattern: readonly string[]

  /** `text`: 16 bytes. Nodes 1 and 2 count from now on, in VXLAN too (an IPv4 or IPv6 packet in it). */
  constructor(cluster: SteeringCluster, name: string, text: string) {
    const payload = Buffer.from(text).toString('hex')
    this.#cluster = cluster
    this.#name = `pp_${name}`
    this.pattern = ['-p', payload]
    for (const n of [1, 2])
      cluster.nft(
        n,
        `table inet ${this.#name}
delete table inet ${this.#name}
table inet ${this.#name} {
  counter marked { }
  chain out { type filter hook postrouting priority 310
    oifname "eth0" meta l4proto { icmp, ipv6-icmp } @th,192,128 0x${payload} counter name marked
    oifname "eth0" udp dport 8472 @th,592,128 0x${payload} counter name marked
    oifname "eth0" udp dport 8472 @th,752,128 0x${payload} counter name marked
  }
}`,
      )
  }

  /** How many have left in clear, by either node. */
  get inClear(): number {
    const count = (n: number) =>
      Number(/packets (\d+)/.exec(this.#cluster.run(`n${n}`, `nft list counter inet ${this.#name} marked`))?.[1])
    return count(1) + count(2)
  }
}
