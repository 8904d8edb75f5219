import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type {
  Datapath,
  IpsecDevice,
  IpsecOpened,
  IpsecSettings,
  IpsecState,
  ProbeResult,
  WireguardDevice,
  WireguardState,
} from '#core/datapath/datapath.ts'
import { unwrap } from '#core/fault/result.ts'
import type { XfrmEvent } from '#core/netlink/xfrm-event.ts'
import { parseXfrmStat } from '#core/netlink/xfrm-stat.ts'
import { KernelIpsec } from './kernel-ipsec.ts'
import { KernelWireguard } from './kernel-wireguard.ts'
import { inNetworkNamespace } from './network-namespace.ts'
import { probeIpsec, probeWireguard } from './probe-kernel.ts'

export interface KernelDatapathOptions {
  /** Path of a network namespace; the calling thread's own without. */
  readonly namespace?: string
  /** In memory-backed storage: what is remembered of keys that were sent by, a file for each device of IPsec. */
  readonly stateFolder?: string
}

/** The kernel's datapath by netlink, for as long as its sockets are open in one network namespace. */
export class KernelDatapath implements Datapath {
  readonly kind = 'kernel'
  readonly #wireguard: KernelWireguard
  readonly #ipsec = new Map<string, KernelIpsec>()
  readonly #inside: <T>(run: () => T) => T
  readonly #stateFolder: string
  #probed: ProbeResult | undefined

  /** @throws Fault `kernel.*` without the right to open netlink sockets there */
  constructor(options: KernelDatapathOptions = {}) {
    const { namespace, stateFolder = '/run/pellicle/kernel' } = options
    this.#inside = namespace === undefined ? (run) => run() : (run) => inNetworkNamespace(namespace, run)
    this.#stateFolder = stateFolder
    this.#wireguard = this.#inside(() => new KernelWireguard())
  }

  /** WireGuard and IPsec, since a cluster may change from one to the other. A yes is kept; a no is asked again. */
  async probe(): Promise<ProbeResult> {
    if (this.#probed?.usable === true) return this.#probed
    const wireguard = probeWireguard()
    this.#probed = wireguard.usable ? probeIpsec() : wireguard
    return this.#probed
  }

  async apply(device: WireguardDevice): Promise<void> {
    this.#wireguard.apply(device)
  }

  async observe(name: string): Promise<WireguardState | undefined> {
    return this.#wireguard.kindOf(name) === 'xfrm' ? undefined : this.#wireguard.observe(name)
  }

  /**
   * Of IPsec what `/proc/net/xfrm_stat` says, which is about all of the namespace, not of the device alone. The kernel's
   * WireGuard counts drops only together with its device's, which the host's statistics tell.
   */
  async counters(name: string): Promise<Readonly<Record<string, number>>> {
    if (this.#wireguard.kindOf(name) !== 'xfrm') return {}
    return unwrap(parseXfrmStat(this.#inside(() => readFileSync('/proc/thread-self/net/xfrm_stat', 'utf8'))))
  }

  async remove(name: string): Promise<void> {
    if (this.#ipsec.has(name) || this.#wireguard.kindOf(name) === 'xfrm') {
      this.#withIpsec(name, (ipsec) => ipsec.remove())
    } else this.#wireguard.remove(name)
  }

  async openIpsec(settings: IpsecSettings): Promise<IpsecOpened> {
    return this.#withIpsec(settings.name, (ipsec) => ipsec.open(settings))
  }

  async applyIpsec(device: IpsecDevice): Promise<void> {
    this.#withIpsec(device.name, (ipsec) => ipsec.apply(device))
  }

  async observeIpsec(name: string): Promise<IpsecState | undefined> {
    if (this.#wireguard.kindOf(name) !== 'xfrm') return undefined
    return this.#withIpsec(name, (ipsec) => ipsec.observe())
  }

  /** Whether it tells of something that somebody else did to a device of ours. */
  concerns(event: XfrmEvent): boolean {
    return [...this.#ipsec.values()].some((ipsec) => ipsec.concerns(event))
  }

  async close(): Promise<void> {
    this.#wireguard.close()
    for (const ipsec of this.#ipsec.values()) ipsec.close()
    this.#ipsec.clear()
  }

  /** In the namespace, since libnftables opens its socket at first use. */
  #withIpsec<T>(name: string, run: (ipsec: KernelIpsec) => T): T {
    return this.#inside(() => {
      const there = this.#ipsec.get(name)
      if (there !== undefined) return run(there)
      const made = new KernelIpsec(name, join(this.#stateFolder, `${name}.keys`))
      this.#ipsec.set(name, made)
      return run(made)
    })
  }
}
